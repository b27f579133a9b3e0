//go:build e2e

package nomaddev_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// shop is the application under test on a cluster, with the commands that a
// person would type.
type shop struct {
	cluster
	t       *testing.T
	program string // that its replicas run
}

func startShop(t *testing.T, servers, proxies int) *shop {
	t.Helper()
	return &shop{cluster: startCluster(t, serving(t, servers, proxies)), t: t, program: replicaProgram(t)}
}

var replicaBuild struct {
	sync.Once
	path string
	err  error
}

// replicaProgram builds the program that replicas run, once per test process.
func replicaProgram(t *testing.T) string {
	t.Helper()
	replicaBuild.Do(func() {
		replicaBuild.path = filepath.Join(testRoot(), "bin-"+strconv.Itoa(os.Getpid()), "replica")
		out, err := exec.Command("go", "build", "-o", replicaBuild.path, "./testdata/replica").CombinedOutput()
		if err != nil {
			replicaBuild.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if replicaBuild.err != nil {
		t.Fatalf("build the replica: %v", replicaBuild.err)
	}
	return replicaBuild.path
}

// cli runs serve-nomad against the server of that number.
func (s *shop) cli(server int, args ...string) (output string, code int) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), serveNomad(s.t), args...)
	cmd.Env = append(os.Environ(), api.AddressEnv+"="+s.Servers[server].URL())
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("run serve-nomad %q: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// deploy deploys the shop with these variables ("version=v2") and returns what
// the command printed.
func (s *shop) deploy(want int, vars ...string) string {
	s.t.Helper()
	return s.deployFile("shop", want, vars...)
}

// deployFile deploys a spec of testdata with these variables, and returns what
// the command printed.
func (s *shop) deployFile(name string, want int, vars ...string) string {
	s.t.Helper()
	args := []string{"deploy", "-timeout", "90s", "-var", "program=" + s.program}
	for _, v := range vars {
		args = append(args, "-var", v)
	}
	out, code := s.cli(0, append(args, "testdata/"+name+".hcl")...)
	if code != want {
		s.t.Fatalf("deploy %s %q: exit code %d, want %d\n%s", name, vars, code, want, out)
	}
	return out
}

// only returns the status of the one deployment of an application, as one server
// has it.
func (s *shop) only(server int, application string) (reconcile.DeploymentStatus, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	app, _, err := s.client(server).Application(ctx, application, api.Query{})
	if err == nil && len(app.Deployments) != 1 {
		err = fmt.Errorf("%d deployments: %+v", len(app.Deployments), app.Deployments)
	}
	if err != nil {
		return reconcile.DeploymentStatus{}, err
	}
	return app.Deployments[0], nil
}

// client returns a client of the server of that number.
func (s *shop) client(server int) *api.Client {
	s.t.Helper()
	c, err := api.NewClient(api.ClientConfig{Address: s.Servers[server].URL()})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// status returns the status of the shop and of the one deployment that takes
// its traffic.
func (s *shop) status(server int) (reconcile.ApplicationStatus, reconcile.DeploymentStatus, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
	defer cancel()
	app, _, err := s.client(server).Application(ctx, "shop", api.Query{})
	if err != nil {
		return app, reconcile.DeploymentStatus{}, err
	}
	for _, d := range app.Deployments {
		if d.Serving {
			return app, d, nil
		}
	}
	return app, reconcile.DeploymentStatus{}, fmt.Errorf("no deployment serves: %+v", app)
}

// healthy waits until the serving version has so many healthy replicas and no
// other that runs.
func (s *shop) healthy(replicas int) reconcile.DeploymentStatus {
	s.t.Helper()
	var found reconcile.DeploymentStatus
	eventually(s.t, 60*time.Second, fmt.Sprintf("%d replicas are healthy", replicas), func() error {
		app, d, err := s.status(0)
		if err != nil {
			return err
		}
		if app.Status != reconcile.Healthy || d.Healthy != replicas || d.Target != replicas {
			return fmt.Errorf("%s (%s), %+v", app.Status, app.Reason, d)
		}
		found = d
		return nil
	})
	return found
}

// replicaIDs returns the replicas that pass their checks.
func replicaIDs(d reconcile.DeploymentStatus) map[string]bool {
	ids := map[string]bool{}
	for _, r := range d.Replicas {
		if r.Healthy {
			ids[r.ID] = true
		}
	}
	return ids
}

// answer is what a replica says.
type answer struct {
	Replica, Version, Path string
	Pid                    int
	Most                   int
	Started                int64 // ns since 1970
}

// ask sends one request through the first proxy.
func (s *shop) ask(path string) (answer, *http.Response, error) {
	return ask(s.t.Context(), s.Proxies[0].URL()+path)
}

func ask(ctx context.Context, url string) (a answer, resp *http.Response, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return a, nil, err
	}
	resp, err = http.DefaultClient.Do(req)
	if err != nil {
		return a, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, resp, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, resp, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return a, resp, json.Unmarshal(body, &a)
}

// load is a steady stream of requests, each sent once.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	sent     int
	lost     []error
	versions map[string]int
	most     int // requests that a replica had at once
}

// loadRate is requests a second in all; one in ten takes a second.
const loadRate = 100

// startLoad sends requests round robin to every proxy until stopped.
func (s *shop) startLoad() *load {
	s.t.Helper()
	return s.startLoadOf(loadRate, func(i int) string {
		if i%100 < 2 {
			return "/shop/item?sleep=500ms"
		}
		return "/shop/item"
	})
}

// startLoadOf is startLoad with a rate of its own, and a path for each request.
func (s *shop) startLoadOf(rate int, path func(i int) string) *load {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, versions: map[string]int{}}
	s.t.Cleanup(l.end)
	l.done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			url := s.Proxies[i%len(s.Proxies)].URL() + path(i)
			l.done.Go(func() { l.one(url) })
		}
	})
	return l
}

func (l *load) one(url string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	a, _, err := ask(ctx, url)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if err != nil {
		l.lost = append(l.lost, err)
		return
	}
	l.versions[a.Version]++
	l.most = max(l.most, a.Most)
}

func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// answered waits until n more requests have been answered.
func (l *load) answered(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.sent
	}
	from := count()
	eventually(t, 60*time.Second, fmt.Sprintf("%d more requests are answered", n), func() error {
		if have := count() - from; have < n {
			return fmt.Errorf("%d", have)
		}
		return nil
	})
}

// wantNoneLost ends the load and checks that every request was answered.
func (l *load) wantNoneLost(t *testing.T) {
	t.Helper()
	l.end()
	t.Logf("%d requests, %d lost, by version %v", l.sent, len(l.lost), maps.Clone(l.versions))
	if len(l.lost) > 0 || l.sent == 0 {
		t.Errorf("%d of %d requests lost; the first: %v", len(l.lost), l.sent, l.lost[:min(3, len(l.lost))])
	}
}
