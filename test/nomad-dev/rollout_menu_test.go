//go:build e2e

package nomaddev_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// menu is one application that a scenario rolls out versions of, under load: a
// front, and what it calls.
type menu struct {
	*shop
	name    string
	dir     string // of the replicas' journals
	program string
	phases  phases
	token   string // that replicas want to see; "": none
	load    *traffic
	route   *routeLog
	figure  *figure
}

// phases are how many requests a second there are, how long they come before and
// after the change, and how long streams are.
type phases struct {
	rate                  int
	before, after, stream time.Duration
}

// measuring says whether figures are wanted, which take their time.
func measuring() bool { return os.Getenv("SERVE_NOMAD_ROUNDS") != "" }

// phasesOf are short ones, in which what is asserted is still to be seen, or
// those that figures are measured with.
func phasesOf() phases {
	if measuring() {
		return phases{rate: 200, before: 10 * time.Second, after: 20 * time.Second, stream: 10 * time.Second}
	}
	return phases{rate: 100, before: time.Second, after: time.Second, stream: 2 * time.Second}
}

// edition is what a scenario deploys.
type edition struct {
	version  string            // that front says it is
	back     string            // that what it calls says it is; "": the same
	calls    []string          // what front calls; nil: back
	env      map[string]string // of front, beside
	replicas int               // of front; 0: 3
	price    int               // user_config of front; 0: none
	scales   string            // inside of front's autoscaling block; "": none
	more     string            // of front
	rollout  string            // inside of the rollout block; "": none
}

// with returns e changed.
func (e edition) with(change func(*edition)) edition {
	e.env = maps.Clone(e.env)
	change(&e)
	return e
}

// says is what answers of e say alone, no other version among them.
func (e edition) says() string {
	words := []string{e.version}
	for range e.called() {
		words = append(words, e.backVersion())
	}
	return strings.Join(words, " ")
}

func (e edition) called() []string {
	if e.calls == nil {
		return []string{"back"}
	}
	return e.calls
}

func (e edition) backVersion() string {
	if e.back == "" {
		return e.version
	}
	return e.back
}

func (e edition) frontReplicas() int {
	if e.replicas == 0 {
		return 3
	}
	return e.replicas
}

const backReplicas = 2

// text is e's spec.
func (e edition) text(m *menu) string {
	var b strings.Builder
	fmt.Fprintf(&b, "application %q {\n  route_prefix    = \"/%s\"\n  ingress         = deployment.front\n  request_timeout = \"60s\"\n", m.name, m.name)
	if e.rollout != "" {
		fmt.Fprintf(&b, "  rollout {\n%s\n  }\n", e.rollout)
	}
	var handles []string
	for _, name := range e.called() {
		handles = append(handles, "deployment."+name)
		m.block(&b, name, fmt.Sprintf("num_replicas = %d", backReplicas), map[string]string{"VERSION": e.backVersion()})
	}
	env := map[string]string{"VERSION": e.version}
	maps.Copy(env, e.env)
	more := fmt.Sprintf("num_replicas = %d\n", e.frontReplicas())
	if e.scales != "" {
		more = "autoscaling {\n" + e.scales + "\n}\n"
	}
	more += "handles = [" + strings.Join(handles, ", ") + "]\n" + e.more
	if e.price != 0 {
		more += fmt.Sprintf("\nuser_config = { price = %d }", e.price)
	}
	m.block(&b, "front", more, env)
	b.WriteString("}\n")
	return b.String()
}

func (m *menu) block(b *strings.Builder, name, more string, env map[string]string) {
	fmt.Fprintf(b, "  deployment %q {\n%s\n    max_ongoing_requests = 100\n", name, more)
	b.WriteString("    resources {\n      cpu    = 0.02\n      memory = \"32MiB\"\n    }\n")
	fmt.Fprintf(b, "    task {\n      driver = \"raw_exec\"\n      config {\n        command = %q\n      }\n      env {\n        JOURNAL = %q\n", m.program, m.dir)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(b, "        %s = %q\n", k, env[k])
	}
	b.WriteString("      }\n")
	if m.token != "" {
		fmt.Fprintf(b, "      template {\n        data        = \"TOKEN={{ with nomadVar \\\"nomad/jobs\\\" }}{{ .%s }}{{ end }}\"\n"+
			"        destination = \"secrets/token.env\"\n        env         = true\n      }\n", m.name)
	}
	b.WriteString("    }\n    health_check {\n      period = \"1s\"\n    }\n    graceful_shutdown_timeout = \"30s\"\n  }\n")
}

var rolloutBuild struct {
	sync.Once
	path string
	err  error
}

// rolloutProgram builds the program whose versions are rolled out, once per
// test process.
func rolloutProgram(t *testing.T) string {
	t.Helper()
	rolloutBuild.Do(func() {
		rolloutBuild.path = filepath.Join(testRoot(), "bin-"+strconv.Itoa(os.Getpid()), "rollout")
		out, err := exec.Command("go", "build", "-o", rolloutBuild.path, "./testdata/rollout").CombinedOutput()
		if err != nil {
			rolloutBuild.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if rolloutBuild.err != nil {
		t.Fatalf("build the program that is rolled out: %v", rolloutBuild.err)
	}
	return rolloutBuild.path
}

// newMenu prepares a scenario on a cluster: an application of that name, and
// nothing deployed yet. At the test's end it is deleted.
func newMenu(t *testing.T, c cluster, name string, f *figure) *menu {
	t.Helper()
	m := &menu{shop: &shop{cluster: c, t: t}, name: name, dir: t.TempDir(), program: rolloutProgram(t), phases: phasesOf(), figure: f}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.story())
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := m.client(0).Delete(ctx, m.name, api.DeleteRequest{}); err != nil && !strings.Contains(err.Error(), "no application") {
			t.Log(err)
		}
	})
	return m
}

// in is m in a subtest.
func (m *menu) in(t *testing.T) *menu {
	t.Helper()
	sub := *m
	sub.shop = &shop{cluster: m.cluster, t: t}
	return &sub
}

// deploy deploys e, without waiting for what comes of it, and returns when that
// was.
func (m *menu) deploy(e edition) time.Time {
	m.t.Helper()
	at := time.Now()
	if out, code := m.tryDeploy(e); code != 0 {
		m.t.Fatalf("deploy: exit code %d\n%s\n%s", code, out, e.text(m))
	}
	return at
}

func (m *menu) tryDeploy(e edition) (output string, code int) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "app.hcl")
	if err := os.WriteFile(file, []byte(e.text(m)), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return m.cli(m.alive(), "deploy", "-detach", file)
}

// alive is a server that runs.
func (m *menu) alive() int {
	m.t.Helper()
	for i, s := range m.Servers {
		if s.Running() {
			return i
		}
	}
	m.t.Fatal("no server runs")
	return 0
}

// begin deploys the first version, and when it serves starts the load and lets
// it run.
func (m *menu) begin(e edition) {
	m.t.Helper()
	m.deploy(e)
	m.settles(90*time.Second, e, 1)
	m.route = m.watchRoute()
	m.load = m.startTraffic(m.name, m.phases, m.token)
	m.load.says(m.t, 10*time.Second, e.version)
	m.load.goesOn(m.t, m.phases.before)
}

// finish lets the load run on after the change, ends it, and checks that nothing
// was lost that was not excused.
func (m *menu) finish() {
	m.t.Helper()
	m.load.goesOn(m.t, m.phases.after)
	m.load.wantNoneLost(m.t)
	m.figure.of(m.load)
	m.t.Logf("%d requests, %d streams among them, %d lost, answers by version %v", m.load.sent, m.load.streams, len(m.load.lost), m.load.counts())
}

// status returns how the application is.
func (m *menu) status() (reconcile.ApplicationStatus, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	app, _, err := m.client(m.alive()).Application(ctx, m.name, api.Query{})
	return app, err
}

// comesTo waits until the status is as it is asked for, and returns it.
func (m *menu) comesTo(limit time.Duration, what string, so func(reconcile.ApplicationStatus) bool) reconcile.ApplicationStatus {
	m.t.Helper()
	var app reconcile.ApplicationStatus
	eventually(m.t, limit, what, func() (err error) {
		app, err = m.status()
		if err == nil && !so(app) {
			err = fmt.Errorf("%s (%s), version %d of which %d serves, rollout %+v, stage %s, %d percent, waits for %s, gates: %s, leaving %+v",
				app.Status, app.Reason, app.Version, app.ServingVersion, app.Rollout, app.Stage, app.Weight, app.Waits, app.Gates, app.Leaving)
		}
		return err
	})
	return app
}

// serves waits until that version number has rolled out and serves alone, and
// returns when its rollout ended.
func (m *menu) serves(limit time.Duration, version int) time.Time {
	m.t.Helper()
	app := m.comesTo(limit, fmt.Sprintf("version %d serves", version), func(app reconcile.ApplicationStatus) bool {
		return app.ServingVersion == version && app.Version == version && app.Rollout.Status == raftstate.RolloutSuccessful
	})
	return app.Rollout.EndedAt
}

// rollsBack waits until the rollout of that version number has failed, and
// returns the status then.
func (m *menu) rollsBack(limit time.Duration, version int) reconcile.ApplicationStatus {
	m.t.Helper()
	return m.comesTo(limit, fmt.Sprintf("version %d is rolled back", version), func(app reconcile.ApplicationStatus) bool {
		return app.Version == version && app.ServingVersion != version && app.Rollout.Status == raftstate.RolloutFailed
	})
}

// settles waits until e serves as that version number, with as many replicas as
// it asks for, and nothing else is left in Nomad or in the route. A newer version
// may have failed.
func (m *menu) settles(limit time.Duration, e edition, version int) {
	m.t.Helper()
	app := m.comesTo(limit, fmt.Sprintf("version %d serves alone", version), func(app reconcile.ApplicationStatus) bool {
		health := reconcile.Healthy
		if app.Version != version {
			health = reconcile.Failed
		}
		return app.ServingVersion == version && len(app.Leaving) == 0 && app.Status == health
	})
	for _, d := range app.Deployments {
		if d.Edited {
			m.t.Errorf("nobody edited a job, and status says: %s", d.Reason)
		}
	}
	eventually(m.t, limit, "nothing else is left", func() error { return m.alone(e) })
}

// decisions returns the application's events of these types, since its last
// deploy.
func (m *menu) decisions(types ...string) []raftstate.Event {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	events, _, err := m.client(m.alive()).Events(ctx, m.name, api.Query{})
	if err != nil {
		m.t.Fatal(err)
	}
	var found []raftstate.Event
	for _, e := range events {
		if e.Type == "deployed" {
			found = nil
		}
		if slices.Contains(types, e.Type) {
			found = append(found, e)
		}
	}
	return found
}

// story is what happened to the application, for people.
func (m *menu) story() string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var b strings.Builder
	for i, s := range m.Servers {
		if !s.Running() {
			continue
		}
		events, _, err := m.client(i).Events(ctx, m.name, api.Query{Stale: true})
		fmt.Fprintf(&b, "events of %s: %v\n", m.name, err)
		for _, e := range events {
			fmt.Fprintf(&b, "  %s %s %s %s\n", e.At.Local().Format("05.000"), e.Type, e.Deployment, e.Message)
		}
		break
	}
	if m.route != nil {
		b.WriteString(m.route.String())
	}
	return b.String()
}
