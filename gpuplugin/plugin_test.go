package gpuplugin

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpudevice"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// fakeDriver sees what the test says.
type fakeDriver struct {
	mu    sync.Mutex
	sight gpushare.Sight
	stuck chan struct{} // nil, or looks wait until it is closed
	woken chan struct{}
	looks int
}

func newFakeDriver(gpus ...gpushare.GPU) *fakeDriver {
	return &fakeDriver{sight: gpushare.Sight{GPUs: gpus}, woken: make(chan struct{}, 1)}
}

func (d *fakeDriver) set(s gpushare.Sight) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sight = s
}

func (d *fakeDriver) Look() gpushare.Sight {
	d.mu.Lock()
	stuck := d.stuck
	d.looks++
	d.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sight
}

func (d *fakeDriver) Usage(uuid string) (gpudevice.Usage, bool) {
	return gpudevice.Usage{UsedMiB: new(uint64(7)), TotalMiB: new(uint64(100)), GPUPercent: new(uint64(42))}, uuid == "GPU-a"
}
func (d *fakeDriver) Woken() <-chan struct{} { return d.woken }
func (d *fakeDriver) Close()                 {}

// fakeDaemons are daemons that fail as the test says.
type fakeDaemons struct{ wrong map[string]string }

func (f fakeDaemons) Keep(_ context.Context, daemons []gpushare.Daemon) map[string]string {
	wrong := map[string]string{}
	for _, d := range daemons {
		if why := f.wrong[d.UUID]; why != "" {
			wrong[d.UUID] = why
		}
	}
	return wrong
}

func gpuA() gpushare.GPU {
	return gpushare.GPU{UUID: "GPU-a", Index: 0, Minor: 0, Model: "NVIDIA H100", MemoryMiB: 1000}
}

func newTestPlugin(t *testing.T, d *fakeDriver, s gpushare.Settings) *plugin {
	t.Helper()
	if s.StateDir == "" {
		s.StateDir = t.TempDir()
	}
	p := newPlugin("1.0.0", "host", "boot-1", d, fakeDaemons{}, hclog.NewNullLogger())
	if err := p.configure(s); err != nil {
		t.Fatal(err)
	}
	return p
}

// stream is a fingerprint that goes on, and what it sent last.
type stream struct {
	mu   sync.Mutex
	sent [][]gpushare.Group
	stop context.CancelFunc
	done chan error
}

func openStream(t *testing.T, p *plugin) *stream {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	s := &stream{stop: stop, done: make(chan error, 1)}
	go func() {
		s.done <- p.fingerprint(ctx, func(groups []gpushare.Group) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sent = append(s.sent, groups)
			return nil
		})
	}()
	return s
}

func (s *stream) got() (n int, last []gpushare.Group) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) > 0 {
		last = s.sent[len(s.sent)-1]
	}
	return len(s.sent), last
}

func (s *stream) close(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.done; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestFingerprintSendsAtOnceAndOnChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver()
		d.set(gpushare.Sight{Absent: "no driver"})
		s := openStream(t, newTestPlugin(t, d, gpushare.Settings{}))
		defer s.close(t)
		if n, groups := s.got(); n != 1 || len(groups) != 0 {
			t.Fatalf("got %d times, %v: want nothing, at once", n, groups)
		}
		time.Sleep(5 * time.Minute)
		if n, _ := s.got(); n != 1 {
			t.Fatalf("sent %d times while nothing changed", n)
		}

		d.set(gpushare.Sight{GPUs: []gpushare.GPU{gpuA()}})
		time.Sleep(gpushare.DefaultPeriod)
		if n, groups := s.got(); n != 2 || groups[0].Instances[0].Trouble != "" {
			t.Fatalf("the driver came: sent %d times, %v", n, groups)
		}

		d.set(gpushare.Sight{Absent: "unloaded"})
		time.Sleep(gpushare.DefaultPeriod)
		if n, groups := s.got(); n != 3 || !strings.Contains(groups[0].Instances[0].Trouble, "unloaded") {
			t.Fatalf("the driver went: sent %d times, %v", n, groups)
		}

		d.set(gpushare.Sight{GPUs: []gpushare.GPU{gpuA()}})
		d.woken <- struct{}{} // before its time
		if n, groups := s.got(); n != 4 || groups[0].Instances[0].Trouble != "" {
			t.Fatalf("it came back: sent %d times, %v", n, groups)
		}
	})
}

func TestFingerprintAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTestPlugin(t, newFakeDriver(gpuA()), gpushare.Settings{})
		first := openStream(t, p)
		first.got()
		first.close(t)
		p.driver.Driver.(*fakeDriver).set(gpushare.Sight{})
		second := openStream(t, p)
		defer second.close(t)
		if n, groups := second.got(); n != 1 || len(groups) != 1 || groups[0].Instances[0].Trouble == "" {
			t.Errorf("sent %d times, %v: want the GPU that the first stream knew", n, groups)
		}
	})
}

func TestFingerprintEndsWhenNobodyListens(t *testing.T) {
	t.Parallel()
	p := newTestPlugin(t, newFakeDriver(), gpushare.Settings{})
	gone := errors.New("gone")
	if err := p.fingerprint(t.Context(), func([]gpushare.Group) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// TestStuckDriver holds that a driver that never answers is no reason to say
// nothing, and is asked by one look only.
func TestStuckDriver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDriver(gpuA())
		s := openStream(t, newTestPlugin(t, d, gpushare.Settings{}))
		defer s.close(t)
		s.got()
		stuck := make(chan struct{})
		d.mu.Lock()
		d.stuck = stuck
		d.mu.Unlock()
		time.Sleep(10 * gpushare.DefaultPeriod)
		if n, groups := s.got(); n != 2 || !strings.Contains(groups[0].Instances[0].Trouble, "has not answered") {
			t.Fatalf("sent %d times, %v", n, groups)
		}
		d.mu.Lock()
		looks := d.looks
		d.stuck = nil
		d.mu.Unlock()
		if looks != 2 {
			t.Errorf("it was asked %d times: want 2", looks)
		}
		close(stuck)
		time.Sleep(2 * gpushare.DefaultPeriod)
		if _, groups := s.got(); groups[0].Instances[0].Trouble != "" {
			t.Errorf("it answers again: %v", groups)
		}
	})
}

func TestMPSThatFails(t *testing.T) {
	t.Parallel()
	p := newTestPlugin(t, newFakeDriver(gpuA()), gpushare.Settings{Mode: "shared", Sharing: "mps"})
	p.mps = fakeDaemons{wrong: map[string]string{"GPU-a": "no such program"}}
	if devices := p.look(t.Context()); devices[0].Trouble != "no such program" {
		t.Errorf("got %+v", devices)
	}
	if _, err := p.reserve(t.Context(), []string{"GPU-a::00"}); err == nil {
		t.Error("a task may have it")
	}
	p.mps = fakeDaemons{}
	if devices := p.look(t.Context()); devices[0].Trouble != "" {
		t.Errorf("got %+v", devices)
	}
}

func TestOtherSlicesAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func(n int) *plugin {
		return newTestPlugin(t, newFakeDriver(gpuA()), gpushare.Settings{Mode: "shared", Slices: &n, StateDir: dir})
	}
	if d := start(8).look(t.Context()); d[0].Trouble != "" {
		t.Fatalf("got %+v", d)
	}
	p := start(4)
	if d := p.look(t.Context()); !strings.Contains(d[0].Trouble, "8 slices to 4") {
		t.Fatalf("got %+v", d)
	}
	if err := os.Remove(gpudevice.AnnouncedFile(dir)); err != nil {
		t.Fatal(err)
	}
	if d := p.look(t.Context()); d[0].Trouble != "" {
		t.Errorf("the file was removed: %+v", d)
	}
	if d := start(8).look(t.Context()); !strings.Contains(d[0].Trouble, "4 slices to 8") {
		t.Errorf("the new shape was not remembered: %+v", d)
	}
	p = start(8)
	p.boot = "boot-2"
	if d := p.look(t.Context()); d[0].Trouble != "" {
		t.Errorf("after a boot: %+v", d)
	}
}

func TestStateDirThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newTestPlugin(t, newFakeDriver(gpuA()), gpushare.Settings{StateDir: file})
	var log bytes.Buffer
	p.log = hclog.New(&hclog.LoggerOptions{Output: &log})
	for range 3 {
		if d := p.look(t.Context()); len(d) != 1 || d[0].Trouble != "" {
			t.Fatalf("got %+v", d)
		}
	}
	if n := strings.Count(log.String(), "will not be noticed"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, log.String())
	}
}

func TestUnknownGPUBlock(t *testing.T) {
	t.Parallel()
	p := newTestPlugin(t, newFakeDriver(gpuA()), gpushare.Settings{GPUs: map[string]gpushare.GPUSettings{"5": {Mode: "ignored"}}})
	var log bytes.Buffer
	p.log = hclog.New(&hclog.LoggerOptions{Output: &log})
	if d := p.look(t.Context()); len(d) != 1 {
		t.Errorf("got %+v", d)
	}
	if !strings.Contains(log.String(), `gpu "5": this node has no such GPU`) {
		t.Errorf("got %s", log.String())
	}
}

func TestMakeBelieveKeepsItsIndices(t *testing.T) {
	t.Parallel()
	d := newFakeDriver()
	d.set(gpushare.Sight{Absent: "not yet"})
	two := 2
	p := newTestPlugin(t, d, gpushare.Settings{MakeBelieve: map[string]gpushare.PretenceSettings{"NVIDIA H200": {Count: &two, Mode: "shared"}}})
	before := gpushare.Groups(p.look(t.Context()))
	d.set(gpushare.Sight{GPUs: []gpushare.GPU{gpuA()}})
	after := gpushare.Groups(p.look(t.Context()))
	if len(before) != 2 || len(after) != 3 || before[0].Name != after[0].Name || before[1].Name != after[1].Name {
		t.Errorf("got %v and then %v", before, after)
	}
	if got := after[2].Instances[0].ID; got != "GPU-a" {
		t.Errorf("got %s", got)
	}
}

func TestReserveBeforeTheFirstLook(t *testing.T) {
	t.Parallel()
	p := newTestPlugin(t, newFakeDriver(gpuA()), gpushare.Settings{})
	r, err := p.reserve(t.Context(), []string{"GPU-a"})
	if err != nil || r.Env[gpushare.EnvVisible] != "GPU-a" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	other := gpushare.GPU{UUID: "GPU-b", Index: 1, Model: "T4"} // does not answer
	p := newTestPlugin(t, newFakeDriver(gpuA(), other), gpushare.Settings{
		Mode: "shared", MakeBelieve: map[string]gpushare.PretenceSettings{"NVIDIA H200": {Mode: "whole"}},
	})
	p.look(t.Context())
	now := time.Unix(1000, 0)
	groups := p.stats(now).GetGroups()
	if len(groups) != 3 {
		t.Fatalf("got %v", groups)
	}
	a := groups[0].GetInstanceStats()
	first := a["GPU-a::00"]
	if len(a) != 1 || first.GetSummary().GetIntNumeratorVal().GetValue() != 7 || first.GetSummary().GetIntDenominatorVal().GetValue() != 100 {
		t.Errorf("got %v: want those of the GPU, at its first slice", a)
	}
	if first.GetStats().GetAttributes()["GPU utilization"].GetIntNumeratorVal().GetValue() != 42 || first.GetTimestamp().AsTime() != now.UTC() {
		t.Errorf("got %v", first)
	}
	if len(groups[1].GetInstanceStats()) != 0 {
		t.Errorf("got %v of a GPU that does not answer", groups[1])
	}
	for _, s := range groups[2].GetInstanceStats() {
		if s.GetSummary().GetIntNumeratorVal().GetValue() != 0 || !s.GetStats().GetAttributes()["Make-believe"].GetBoolVal().GetValue() {
			t.Errorf("got %v of a GPU that there is not", s)
		}
	}
}

func TestEndWithParent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var parent atomic.Int64
		parent.Store(77)
		exited := make(chan int, 1)
		go endWithParent(hclog.NewNullLogger(), func() int { return int(parent.Load()) }, func(code int) { exited <- code })
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(exited) > 0 {
			t.Fatal("it ended beside its parent")
		}
		parent.Store(1)
		if code := <-exited; code != 0 {
			t.Errorf("got exit code %d", code)
		}
	})
}

func TestSemantic(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"v1.2.3": "1.2.3", "0.3.0": "0.3.0", "dev": "0.0.0-dev", "": "0.0.0-dev"} {
		if got := semantic(version); got != want {
			t.Errorf("%q: got %q, want %q", version, got, want)
		}
	}
}
