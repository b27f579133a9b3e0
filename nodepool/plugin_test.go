package nodepool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// TestPlugin runs a real plugin of the Nomad Autoscaler, with its own library for
// the choice of the node that goes, against a make-believe Nomad and a cloud
// that is a folder.
func TestPlugin(t *testing.T) {
	plugins := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(plugins, "folder"), ".")
	build.Dir = filepath.Join("testdata", "targetplugin")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, out)
	}
	for name, test := range map[string]func(*testing.T, *pluginWorld){
		"launch":       testPluginLaunch,
		"merge":        testPluginMerge,
		"victim":       testPluginVictim,
		"crowd":        testPluginCrowd,
		"removed":      testPluginRemoved,
		"refusals":     testPluginRefusals,
		"never joined": testPluginUnjoined,
		"careless":     testPluginCareless,
		"hang":         testPluginHang,
		"hang in list": testPluginHangInList,
		"leave":        testPluginLeave,
		"die":          testPluginDie,
		"lies":         testPluginLies,
		"setup":        testPluginSetup,
		"overtaken":    testPluginOvertaken,
		"lifetime":     testPluginLifetime,
		"orphan":       testPluginOrphan,
	} {
		t.Run(name, func(t *testing.T) { test(t, newPluginWorld(t, plugins)) })
	}
}

// pluginWorld is a cloud, a Nomad, and the target between them.
type pluginWorld struct {
	t      *testing.T
	cloud  string
	nomad  *fakeNomad
	target *pluginTarget
	b      nodescale.Blueprint
}

func newPluginWorld(t *testing.T, plugins string) *pluginWorld {
	t.Helper()
	w := &pluginWorld{t: t, cloud: t.TempDir(), nomad: newFakeNomad(t)}
	w.target = newPlugin(PluginConfig{Dir: plugins, NomadAddress: w.nomad.server.URL, NomadToken: "nomad's own"}, hclog.NewNullLogger())
	t.Cleanup(func() { w.target.Close() })
	w.b = nodescale.Blueprint{
		Group: "gpu", NodePool: "gpu", Class: "h100", Plugin: "folder",
		Config: map[string]string{"cloud": w.cloud, "node_selector_strategy": "least_busy", "nomad_address": "http://127.0.0.1:1"},
	}
	return w
}

func (w *pluginWorld) launch(wanted int) error {
	_, err := w.target.Launch(w.t.Context(), w.b, nodescale.Machine{ID: "m", Wanted: wanted})
	return err
}

func (w *pluginWorld) remove(nomadID string, wanted int) error {
	return w.target.Remove(w.t.Context(), w.b, nodescale.Machine{ID: "m", NomadID: nomadID, Wanted: wanted})
}

// fill makes so many instances, each with a drained Nomad node "node-<instance>".
func (w *pluginWorld) fill(count int) {
	w.t.Helper()
	for i := range count {
		instance := fmt.Sprintf("i-%03d", i+1)
		w.say(instance)
		w.nomad.add(instance)
	}
}

// say puts a file into the cloud: an instance, or how the plugin misbehaves.
func (w *pluginWorld) say(name string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.cloud, name), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *pluginWorld) unsay(name string) {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.cloud, name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *pluginWorld) instances() (there []string) {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.cloud, "i-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range paths {
		there = append(there, filepath.Base(path))
	}
	return there
}

// log returns what came after a word in the plugin's log.
func (w *pluginWorld) log(word string) (lines []string) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.cloud, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), word+" "); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}

// pid returns that of the plugin started last.
func (w *pluginWorld) pid() int {
	w.t.Helper()
	starts := w.log("start")
	pid, err := strconv.Atoi(starts[len(starts)-1])
	if err != nil {
		w.t.Fatal(err)
	}
	return pid
}

func (w *pluginWorld) want(instances int) {
	w.t.Helper()
	if got := w.instances(); len(got) != instances {
		w.t.Errorf("there are instances %v, want %d", got, instances)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testPluginLaunch(t *testing.T, w *pluginWorld) {
	ok(t, w.launch(3))
	w.want(3)
	ok(t, w.launch(3))
	ok(t, w.launch(2))
	w.want(3)
	if scales := w.log("scale"); !slices.Equal(scales, []string{"up to 3"}) {
		t.Errorf("the plugin was asked to scale %q: want once", scales)
	}
	listing, err := w.target.List(t.Context(), w.b)
	ok(t, err)
	if !listing.Counted || listing.Count != 3 {
		t.Errorf("listing is %+v, want a count of 3", listing)
	}
	w.say("slow-cloud") // the count is set, its nodes do not come soon
	ok(t, w.launch(4))
	w.unsay("slow-cloud")
	w.say("refuse")
	wantError(t, w.launch(5), "quota exceeded", "folder")
	w.unsay("refuse")
	w.say("stuck")
	wantError(t, w.launch(5), "its count is 4")
	wantError(t, w.launch(0), "cannot be brought to 0")
	w.want(4)
	if starts := w.log("start"); len(starts) != 1 {
		t.Errorf("the plugin was started %d times: want once", len(starts))
	}
}

func testPluginMerge(t *testing.T, w *pluginWorld) {
	const launches = 40
	var wg sync.WaitGroup
	for wanted := 1; wanted <= launches; wanted++ {
		wg.Go(func() {
			if err := w.launch(wanted); err != nil {
				t.Errorf("launch %d: %v", wanted, err)
			}
		})
	}
	wg.Wait()
	w.want(launches)
	last := 0
	for _, scale := range w.log("scale") {
		var count int
		if n, err := fmt.Sscanf(scale, "up to %d", &count); n != 1 || err != nil || count <= last {
			t.Errorf("scaled %q after %d", scale, last)
		}
		last = count
	}
}

// testPluginVictim removes nodes in any order, while they and others are in any
// state: each removal takes the machine of that node and no other.
func testPluginVictim(t *testing.T, w *pluginWorld) {
	const count = 8
	w.fill(count)
	for _, state := range []string{"initializing", "draining", "eligible"} {
		w.nomad.add("other-"+state, state) // would have the library refuse or choose another
	}
	left := w.instances()
	order := rand.Perm(count)
	for _, i := range order {
		victim := fmt.Sprintf("i-%03d", i+1)
		ok(t, w.remove("node-"+victim, 0))
		left = slices.DeleteFunc(left, func(s string) bool { return s == victim })
		if got := w.instances(); !slices.Equal(got, left) {
			t.Fatalf("after removal of %s by order %v there are %v, want %v", victim, order, got, left)
		}
	}
	if scales := w.log("scale"); len(scales) != count || scales[0] != "down to 7" || scales[count-1] != "down to 0" {
		t.Errorf("scaled %q, want one down each time", scales)
	}
	if w.nomad.writes() != 0 {
		t.Error("the plugin changed nodes in Nomad")
	}
}

// testPluginCrowd removes half of the nodes and adds others, all at once.
func testPluginCrowd(t *testing.T, w *pluginWorld) {
	const count, added = 10, 3
	w.fill(count)
	var wg sync.WaitGroup
	for i := 1; i <= count; i += 2 {
		wg.Go(func() {
			if err := w.remove(fmt.Sprintf("node-i-%03d", i), 0); err != nil {
				t.Errorf("remove %d: %v", i, err)
			}
		})
	}
	for range added {
		wg.Go(func() {
			if err := w.launch(count + added); err != nil {
				t.Errorf("launch: %v", err)
			}
		})
	}
	wg.Wait()
	removed := w.log("remove")
	slices.Sort(removed)
	if want := []string{"i-001", "i-003", "i-005", "i-007", "i-009"}; !slices.Equal(removed, want) {
		t.Errorf("removed %v, want %v", removed, want)
	}
	ok(t, w.launch(count-len(removed)+added))
	if there := w.instances(); len(there) < count-len(removed)+added {
		t.Errorf("left with %v", there)
	}
}

// testPluginOrphan kills a server: its plugin goes with it.
func testPluginOrphan(t *testing.T, w *pluginWorld) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing ends a plugin there when its server is killed")
	}
	server := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPluginServer$")
	server.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "PLUGIN_SERVER="+strings.Join([]string{w.target.cfg.Dir, w.cloud, w.nomad.server.URL}, ","))
	if err := server.Run(); err == nil {
		t.Error("the server was not killed")
	}
	wantPluginGone(t, w.pid())
}

// TestPluginServer is the server that testPluginOrphan kills.
func TestPluginServer(t *testing.T) {
	args := strings.Split(os.Getenv("PLUGIN_SERVER"), ",")
	if len(args) != 3 {
		t.Skip("it is part of TestPlugin")
	}
	target := newPlugin(PluginConfig{Dir: args[0], NomadAddress: args[2]}, hclog.NewNullLogger())
	b := nodescale.Blueprint{Group: "gpu", Plugin: "folder", NodePool: "gpu", Config: map[string]string{"cloud": args[1]}}
	_, err := target.Launch(t.Context(), b, nodescale.Machine{ID: "m", Wanted: 1})
	ok(t, err)
	self, err := os.FindProcess(os.Getpid())
	ok(t, err)
	ok(t, self.Kill())
	select {}
}

// testPluginRemoved asks again for what was done: the answer to the first may
// have been lost.
func testPluginRemoved(t *testing.T, w *pluginWorld) {
	w.fill(3)
	ok(t, w.remove("node-i-002", 2))
	wantError(t, w.remove("node-i-002", 2), "does not find the machine", "no nodes identified")
	w.nomad.set("i-002", "down")
	ok(t, w.remove("node-i-002", 2))
	w.want(2)
	w.nomad.set("i-003", "down") // its agent is dead, its machine is not
	ok(t, w.remove("node-i-003", 1))
	w.want(1)
	ok(t, w.remove("node-i-001", 0))
	w.want(0)
	wantError(t, w.remove("node-i-001", 0), "its count is 0")
	w.nomad.set("i-001", "down")
	ok(t, w.remove("node-i-001", 0))
}

func testPluginRefusals(t *testing.T, w *pluginWorld) {
	w.fill(2)
	w.nomad.set("i-001", "eligible")
	wantError(t, w.remove("node-i-001", 1), "still takes allocations")
	w.nomad.set("i-001", "drained")
	elsewhere := w.b
	elsewhere.Class = "a100"
	err := w.target.Remove(t.Context(), elsewhere, nodescale.Machine{ID: "m", NomadID: "node-i-001"})
	wantError(t, err, "not a node of worker group gpu")
	w.nomad.fail(http.StatusInternalServerError, "no cluster leader")
	wantError(t, w.remove("node-i-001", 1), "no cluster leader")
	w.nomad.fail(http.StatusNotFound, "404 page not found")
	wantError(t, w.remove("node-i-001", 1), "404")
	w.nomad.fail(0, "")
	w.nomad.add("nowhere") // a node whose instance is not in the group
	wantError(t, w.remove("node-nowhere", 1), "does not find the machine")
	w.say("unready")
	wantError(t, w.remove("node-i-001", 1), "not ready")
	w.want(2)
	if w.log("remove") != nil {
		t.Errorf("removed %v", w.log("remove"))
	}
}

func testPluginUnjoined(t *testing.T, w *pluginWorld) {
	w.fill(2)
	ok(t, w.remove("", 2)) // it was never made: the count is that of the others
	ok(t, w.remove("node-purged", 2))
	for _, id := range []string{"", "node-purged"} {
		err := w.remove(id, 1)
		wantError(t, err, "removes only machines whose Nomad node it sees", "count of 2 where 1 would do")
		if !errors.Is(err, ErrNotSupported) {
			t.Errorf("%v is not ErrNotSupported", err)
		}
	}
	w.say("unready")
	if err := w.remove("", 2); err == nil {
		t.Error("a count that is not known was taken for one")
	}
	w.want(2)
}

func testPluginCareless(t *testing.T, w *pluginWorld) {
	w.fill(4)
	w.say("blind")
	err := w.remove("node-i-002", 3)
	wantError(t, err, "leaves it to the provider")
	if !errors.Is(err, ErrNotSupported) {
		t.Errorf("%v is not ErrNotSupported", err)
	}
	w.want(4)
	w.unsay("blind")
	w.say("careless")
	wantError(t, w.remove("node-i-002", 3), "it may have removed another")
	w.want(3)
	err = w.remove("node-i-003", 2)
	wantError(t, err, "asked to remove nothing more")
	if !errors.Is(err, ErrNotSupported) {
		t.Errorf("%v is not ErrNotSupported", err)
	}
	w.want(3)
	ok(t, w.launch(4))
}

func testPluginHang(t *testing.T, w *pluginWorld) {
	w.target.limits.scale = 300 * time.Millisecond
	ok(t, w.launch(1))
	first := w.pid()
	w.say("hang-scale")
	wantError(t, w.launch(2), "killed", "starts it again")
	wantPluginGone(t, first)
	ok(t, w.launch(2))
	w.want(2)
	w.nomad.add("i-001")
	w.say("hang-scale")
	wantError(t, w.remove("node-i-001", 1), "killed")
	ok(t, w.remove("node-i-001", 1))
	w.want(1)
}

// testPluginHangInList leaves a plugin alone that is scaling, however long
// another call of it takes.
func testPluginHangInList(t *testing.T, w *pluginWorld) {
	w.target.limits.status = 300 * time.Millisecond
	ok(t, w.launch(1))
	w.say("hang-scale")
	ctx, cancel := context.WithCancel(t.Context())
	scaled := make(chan error)
	go func() {
		_, err := w.target.Launch(ctx, w.b, nodescale.Machine{ID: "m", Wanted: 2})
		scaled <- err
	}()
	for len(w.log("scale")) < 2 {
		time.Sleep(time.Millisecond)
	}
	w.say("hang-status")
	if _, err := w.target.List(t.Context(), w.b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("list: %v", err)
	}
	if _, err := w.target.List(t.Context(), w.b); err != nil {
		t.Errorf("list beside a scaling: %v", err)
	}
	cancel()
	wantError(t, <-scaled, "killed")
	w.say("hang-status")
	_, err := w.target.List(t.Context(), w.b)
	wantError(t, err, "killed")
	_, err = w.target.List(t.Context(), w.b)
	ok(t, err)
}

// testPluginLeave has the first of two launches give up: the other goes on.
func testPluginLeave(t *testing.T, w *pluginWorld) {
	ok(t, w.launch(1))
	g := w.target.groups["gpu"]
	g.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.target.Launch(ctx, w.b, nodescale.Machine{ID: "a", Wanted: 2})
		first <- err
	}()
	waitBatch(g, 2)
	go func() { second <- w.launch(3) }()
	waitBatch(g, 3)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that left: %v", err)
	}
	<-g.turn
	ok(t, <-second)
	w.want(3)
}

// testPluginOvertaken has a removal come before a launch that counted its node.
func testPluginOvertaken(t *testing.T, w *pluginWorld) {
	w.fill(2)
	ok(t, w.launch(2))
	g := w.target.groups["gpu"]
	g.turn <- struct{}{}
	launched := make(chan error, 1)
	go func() { launched <- w.launch(3) }() // one more than these two
	waitBatch(g, 3)
	g.mu.Lock()
	g.gone++ // as remove does, which cannot have its turn here
	g.mu.Unlock()
	if err := os.Remove(filepath.Join(w.cloud, "i-001")); err != nil {
		t.Fatal(err)
	}
	<-g.turn
	ok(t, <-launched)
	w.want(2)
	ok(t, w.launch(3)) // and is counted for no later launch
	w.want(3)
}

func waitBatch(g *pluginGroup, wanted int) {
	for {
		g.mu.Lock()
		there := g.next != nil && g.next.wanted == wanted
		g.mu.Unlock()
		if there {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func testPluginDie(t *testing.T, w *pluginWorld) {
	ok(t, w.launch(1))
	first := w.pid()
	p, err := os.FindProcess(first)
	ok(t, err)
	ok(t, p.Kill())
	wantPluginGone(t, first)
	ok(t, w.launch(2)) // nobody hears of it
	w.say("die-status")
	ok(t, w.launch(3))
	w.say("die-scale")
	wantError(t, w.launch(4), "its process ended")
	ok(t, w.launch(4))
	w.want(4)
	if starts := w.log("start"); len(starts) != 4 {
		t.Errorf("started %d times, want 4", len(starts))
	}
}

func testPluginLies(t *testing.T, w *pluginWorld) {
	w.fill(2)
	for lie, says := range map[string]string{"negative": "-3 nodes", "huge": "1099511627776 nodes", "unready": "does not tell"} {
		w.say(lie)
		_, err := w.target.List(t.Context(), w.b)
		wantError(t, err, says, "folder")
		w.unsay(lie)
	}
	w.say("stuck")
	wantError(t, w.remove("node-i-001", 1), "is 2 as before")
	w.unsay("stuck")
	w.say("unready") // it may be the pool that is not: that is no reason not to add to it
	wantError(t, w.launch(3), "its count is 0")
	w.unsay("unready")
	w.want(3)
}

func testPluginSetup(t *testing.T, w *pluginWorld) {
	for config, says := range map[string]string{"cloud": "cloud is missing", "node_filter_ignore_init": ""} {
		b := w.b
		b.Config = map[string]string{"cloud": w.cloud}
		if config == "cloud" {
			delete(b.Config, "cloud")
		} else {
			b.Config[config] = "garbage"
		}
		_, err := w.target.List(t.Context(), b)
		if says == "" {
			ok(t, err) // what serve-nomad sets itself holds
			continue
		}
		wantError(t, err, says)
	}
	for plugin, says := range map[string]string{
		"": "no name", "..": "no name", "../folder": "no name", "/bin/true": "no name", "aws-asg": "put its program there",
	} {
		b := w.b
		b.Plugin = plugin
		_, err := w.target.List(t.Context(), b)
		wantError(t, err, says)
	}
	dir := w.t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, "text"), []byte("text"), 0o700))
	ok(t, os.WriteFile(filepath.Join(dir, "exits"), []byte("#!/bin/sh\nexit 1\n"), 0o700))
	ok(t, os.WriteFile(filepath.Join(dir, "hangs"), []byte("#!/bin/sh\nexec sleep 3600\n"), 0o700))
	ok(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	programs := newPlugin(PluginConfig{Dir: dir, NomadAddress: "127.0.0.1:4646"}, hclog.NewNullLogger())
	defer programs.Close()
	programs.limits.start = 300 * time.Millisecond
	for plugin, says := range map[string]string{
		"text": "start plugin text", "exits": "start plugin exits", "hangs": "not set up in time", "dir": "is no program",
	} {
		b := w.b
		b.Plugin = plugin
		_, err := programs.List(t.Context(), b)
		wantError(t, err, says)
	}
	none := newPlugin(PluginConfig{NomadAddress: "127.0.0.1:4646"}, hclog.NewNullLogger())
	defer none.Close()
	_, err := none.List(t.Context(), w.b)
	if !errors.Is(err, ErrNotSupported) {
		t.Errorf("without a folder: %v", err)
	}
	bad := newPlugin(PluginConfig{NomadAddress: "unix:///nomad.sock"}, hclog.NewNullLogger())
	defer bad.Close()
	_, err = bad.List(t.Context(), w.b)
	wantError(t, err, "no address of a Nomad agent")
}

func testPluginLifetime(t *testing.T, w *pluginWorld) {
	ok(t, w.launch(1))
	first := w.pid()
	w.b.Config["cloud_region"] = "eu" // configuration is live
	ok(t, w.launch(2))
	second := w.pid()
	if second == first {
		t.Error("another configuration did not start the plugin again")
	}
	wantPluginGone(t, first)
	other := w.b
	other.Group = "cpu"
	_, err := w.target.List(t.Context(), other)
	ok(t, err)
	third := w.pid()
	g := w.target.groups["cpu"]
	g.rest() // it is not due
	_, err = w.target.List(t.Context(), other)
	ok(t, err)
	if w.pid() != third {
		t.Error("a plugin that was just asked was ended")
	}
	g.limits.idle = 0
	g.rest()
	g.limits.idle = pluginIdleLimit
	wantPluginGone(t, third)
	_, err = w.target.List(t.Context(), other) // and starts again when it is asked
	ok(t, err)
	fourth := w.pid()
	ok(t, w.target.Close())
	wantPluginGone(t, second)
	wantPluginGone(t, fourth)
	if err = w.launch(3); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// wantPluginGone waits for a process to be reaped: the test ends in time or not.
func wantPluginGone(t *testing.T, pid int) {
	t.Helper()
	for t.Context().Err() == nil {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// fakeNomad knows nodes by the instance that they are on.
type fakeNomad struct {
	server *httptest.Server

	mu      sync.Mutex
	nodes   map[string]map[string]any
	changed int
	code    int
	message string
}

func newFakeNomad(t *testing.T) *fakeNomad {
	t.Helper()
	n := &fakeNomad{nodes: map[string]map[string]any{}}
	n.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		node, known := n.nodes[strings.TrimPrefix(r.URL.Path, "/v1/node/node-")]
		switch {
		case r.Header.Get("X-Nomad-Token") != "nomad's own":
			http.Error(w, "Permission denied", http.StatusForbidden)
		case r.Method != http.MethodGet:
			n.changed++
		case n.code != 0:
			http.Error(w, n.message, n.code)
		case r.URL.Path == "/v1/regions":
			fmt.Fprint(w, `["global"]`)
		case !known:
			http.Error(w, "node not found", http.StatusNotFound)
		default:
			answer(w, node)
		}
	}))
	t.Cleanup(n.server.Close)
	return n
}

func (n *fakeNomad) add(instance string, state ...string) {
	n.mu.Lock()
	n.nodes[instance] = map[string]any{
		"ID": "node-" + instance, "Name": instance, "Datacenter": "dc1", "NodePool": "gpu", "NodeClass": "h100",
		"Attributes": map[string]string{"unique.platform.test.instance": instance},
	}
	n.mu.Unlock()
	n.set(instance, append(state, "drained")[0])
}

func (n *fakeNomad) set(instance, state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	node := n.nodes[instance]
	node["Status"], node["SchedulingEligibility"], node["Drain"], node["DrainStrategy"] = "ready", "ineligible", false, nil
	switch state {
	case "eligible":
		node["SchedulingEligibility"] = "eligible"
	case "draining":
		node["Drain"], node["DrainStrategy"] = true, map[string]any{"Deadline": 1}
	case "down", "initializing":
		node["Status"] = state
	}
}

func (n *fakeNomad) fail(code int, message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.code, n.message = code, message
}

func (n *fakeNomad) writes() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}
