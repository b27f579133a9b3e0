package consulsd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// script is a source that answers as the test says, without a network.
type script struct {
	mu     sync.Mutex
	asked  []ask
	table  func(ctx context.Context, n int, index uint64, wait time.Duration) ([]storedEntry, uint64, error)
	health func(ctx context.Context, n int, index uint64, wait time.Duration) ([]instance, uint64, error)
	n, m   int
}

type ask struct {
	at    time.Time
	what  string
	index uint64
	wait  time.Duration
}

func (s *script) note(what string, index uint64, wait time.Duration) (table, health int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, ask{time.Now(), what, index, wait})
	if what == "table" {
		s.n++
	} else {
		s.m++
	}
	return s.n, s.m
}

func (s *script) askedFor(what string) (asks []ask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if a.what == what {
			asks = append(asks, a)
		}
	}
	return asks
}

func (s *script) routeEntries(ctx context.Context, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
	n, _ := s.note("table", index, wait)
	return s.table(ctx, n, index, wait)
}

func (s *script) instances(ctx context.Context, service string, index uint64, wait time.Duration) ([]instance, uint64, error) {
	_, n := s.note(service, index, wait)
	return s.health(ctx, n, index, wait)
}

// idle waits as a blocking query does that sees no change.
func idle(ctx context.Context, wait time.Duration) error {
	sleep(ctx, wait)
	return ctx.Err()
}

var errAway = errors.New("away")

// inBubble runs a Watcher on s in a bubble of synctest, and then the test.
func inBubble(t *testing.T, s *script, test func(t *testing.T, w *Watcher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(s, 4, hclog.NewNullLogger(), "not yet")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Run(ctx)
		}()
		test(t, w)
		cancel()
		<-done
	})
}

func TestAConsulThatHasNotAnsweredYetIsNoFaultAtFirst(t *testing.T) {
	s := &script{table: func(ctx context.Context, _ int, _ uint64, wait time.Duration) ([]storedEntry, uint64, error) {
		return nil, 0, idle(ctx, wait)
	}}
	inBubble(t, s, func(t *testing.T, w *Watcher) {
		t.Helper()
		time.Sleep(recallAfter - time.Millisecond)
		synctest.Wait()
		if v := w.View(); v.Known || v.Error != "" {
			t.Errorf("at first: %+v", v)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if v := w.View(); v.Known || v.Error != "not yet" {
			t.Errorf("after a second: %+v", v)
		}
	})
}

func TestWhatCouldNotBeKeptOnDiskIsTriedAgain(t *testing.T) {
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		inTheWay := filepath.Join(folder, "proxy") // a file, where a folder has to be
		if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		k := &keeper{path: filepath.Join(inTheWay, "table"), log: hclog.NewNullLogger(), next: make(chan *routes.View, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { k.run(ctx) })
		k.keep(&routes.View{Known: true, Table: routes.Table{"search": route("search")}})
		time.Sleep(time.Minute)
		if err := os.Remove(inTheWay); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * saveEvery)
		synctest.Wait()
		if s, err := readSaved(k.path, ""); err != nil || s == nil || len(s.Table) != 1 {
			t.Errorf("read %+v, %v", s, err)
		}
		cancel()
		run.Wait()
	})
}

func stored(application string, index uint64) storedEntry {
	value, err := encodeEntry(route(application))
	if err != nil {
		panic(err)
	}
	return storedEntry{application, value, index, index}
}

func TestPace(t *testing.T) {
	t.Run("a Consul that is away is asked less and less often, at most every 5 s", func(t *testing.T) {
		s := &script{table: func(context.Context, int, uint64, time.Duration) ([]storedEntry, uint64, error) {
			return nil, 0, errAway
		}}
		inBubble(t, s, func(t *testing.T, w *Watcher) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			asks := s.askedFor("table")
			if n := len(asks); n < 12 || n > 32 {
				t.Errorf("asked %d times in a minute", n)
			}
			for i := 1; i < len(asks); i++ {
				if gap := asks[i].at.Sub(asks[i-1].at); gap < minBackoff/2 || gap > maxBackoff {
					t.Errorf("gap %d is %s", i, gap)
				}
			}
			if v := w.View(); v.Known || v.Error != "away" {
				t.Errorf("view %+v", v)
			}
		})
	})
	t.Run("a table that keeps changing is asked for at most ten times a second", func(t *testing.T) {
		s := &script{table: func(_ context.Context, n int, _ uint64, _ time.Duration) ([]storedEntry, uint64, error) {
			return nil, uint64(n), nil
		}}
		inBubble(t, s, func(t *testing.T, _ *Watcher) {
			t.Helper()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if n := len(s.askedFor("table")); n > 101 || n < 80 {
				t.Errorf("asked %d times in ten seconds", n)
			}
		})
	})
	t.Run("the wait is spread, so that many proxies do not ask at one moment", func(t *testing.T) {
		s := &script{table: func(ctx context.Context, _ int, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
			if index == 0 {
				return nil, 7, nil
			}
			return nil, 7, idle(ctx, wait)
		}}
		inBubble(t, s, func(t *testing.T, w *Watcher) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			waits := map[time.Duration]bool{}
			for i, a := range s.askedFor("table") {
				waits[a.wait] = true
				if want := uint64(7); i > 0 && a.index != want {
					t.Errorf("question %d has index %d", i, a.index)
				}
			}
			if len(waits) < 10 {
				t.Errorf("only %d different waits", len(waits))
			}
			if w.View().Error != "" {
				t.Error(w.View().Error)
			}
		})
	})
}

func TestIndexRules(t *testing.T) {
	// The index of each answer in turn; 0 stands for an error.
	answers := []uint64{50, 60, 40, 40, 70, 0, 70, 80}
	want := []uint64{0, 50, 60, 0, 40, 70, 0, 70}
	s := &script{}
	s.table = func(ctx context.Context, n int, _ uint64, wait time.Duration) ([]storedEntry, uint64, error) {
		if n > len(answers) {
			return nil, 80, idle(ctx, wait)
		}
		if answers[n-1] == 0 {
			return nil, 0, errAway
		}
		return nil, answers[n-1], nil
	}
	inBubble(t, s, func(t *testing.T, _ *Watcher) {
		t.Helper()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		asks := s.askedFor("table")
		for i, index := range want {
			if asks[i].index != index {
				t.Errorf("question %d has index %d, want %d", i, asks[i].index, index)
			}
		}
	})
}

func TestWhatIsLostIsKeptForAMinute(t *testing.T) {
	s := &script{
		table: func(ctx context.Context, n int, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
			switch {
			case n == 1:
				return []storedEntry{stored("search", 90)}, 90, nil
			case n == 2: // ten seconds later all of it is gone
				return nil, 3, idle(ctx, 10*time.Second)
			case index == 0:
				return nil, 3, nil
			}
			return nil, 3, idle(ctx, wait)
		},
		health: func(ctx context.Context, n int, index uint64, wait time.Duration) ([]instance, uint64, error) {
			if n == 1 {
				return []instance{{id: "i", endpoint: endpoint("search", "r1", 9001)}}, 95, nil
			}
			if index == 0 {
				return nil, 2, nil
			}
			return nil, 2, idle(ctx, wait)
		},
	}
	inBubble(t, s, func(t *testing.T, w *Watcher) {
		t.Helper()
		shows := func(when string, table, endpoints int) {
			t.Helper()
			synctest.Wait()
			if v := w.View(); len(v.Table) != table || len(v.Endpoints) != endpoints || v.Error != "" || !v.Known {
				t.Errorf("%s: view %+v", when, v)
			}
		}
		time.Sleep(time.Second)
		shows("at first", 1, 1)
		time.Sleep(20 * time.Second)
		shows("after the loss", 1, 1)
		if v := w.View(); v.Kept["search"] == "" || len(v.Index) != 0 {
			t.Errorf("view %+v", v)
		}
		time.Sleep(48 * time.Second)
		shows("before the minute is over", 1, 1)
		time.Sleep(5 * time.Second)
		shows("after it", 0, 0)
	})
}

func TestADeletionIsNoLoss(t *testing.T) {
	s := &script{
		table: func(ctx context.Context, n int, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
			switch n {
			case 1:
				return []storedEntry{stored("search", 90)}, 90, nil
			case 2:
				return nil, 91, idle(ctx, time.Second)
			default:
				return nil, 91, idle(ctx, wait)
			}
		},
		health: func(ctx context.Context, _ int, index uint64, wait time.Duration) ([]instance, uint64, error) {
			if index != 0 {
				return nil, 95, idle(ctx, wait)
			}
			return []instance{{id: "i", endpoint: endpoint("search", "r1", 9001)}}, 95, nil
		},
	}
	inBubble(t, s, func(t *testing.T, w *Watcher) {
		t.Helper()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if v := w.View(); len(v.Table) != 0 || len(v.Endpoints) != 0 || len(v.Kept) != 0 {
			t.Errorf("view %+v", v)
		}
	})
}

func TestAScaleDownIsNoLoss(t *testing.T) {
	s := &script{
		table: func(ctx context.Context, _ int, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
			if index == 0 {
				return []storedEntry{stored("search", 90)}, 90, nil
			}
			return []storedEntry{stored("search", 90)}, 90, idle(ctx, wait)
		},
		health: func(ctx context.Context, n int, _ uint64, wait time.Duration) ([]instance, uint64, error) {
			if n == 1 {
				return []instance{{id: "i", endpoint: endpoint("search", "r1", 9001)}}, 95, nil
			}
			return nil, 99, idle(ctx, map[bool]time.Duration{true: time.Second, false: wait}[n == 2])
		},
	}
	inBubble(t, s, func(t *testing.T, w *Watcher) {
		t.Helper()
		time.Sleep(time.Second / 2)
		synctest.Wait()
		if v := w.View(); len(v.Endpoints) != 1 {
			t.Errorf("view %+v", v)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if v := w.View(); len(v.Endpoints) != 0 || len(v.Table) != 1 {
			t.Errorf("view %+v", v)
		}
	})
}

func TestBackAfterAnOutageServicesAreAskedAtOnce(t *testing.T) {
	var back bool // after ten seconds
	s := &script{}
	s.table = func(ctx context.Context, n int, index uint64, wait time.Duration) ([]storedEntry, uint64, error) {
		switch {
		case n == 1 || (back && index == 0):
			return []storedEntry{stored("search", 90)}, 90, nil
		case back:
			return []storedEntry{stored("search", 90)}, 90, idle(ctx, wait)
		}
		return nil, 0, errAway
	}
	s.health = func(ctx context.Context, n int, index uint64, wait time.Duration) ([]instance, uint64, error) {
		if n > 1 && index != 0 { // deaf: its connection hangs through the outage
			return nil, 0, idle(ctx, time.Hour)
		}
		e := endpoint("search", "r1", 9000+n)
		return []instance{{id: "i", endpoint: e}}, 95, nil
	}
	inBubble(t, s, func(t *testing.T, w *Watcher) {
		t.Helper()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if v := w.View(); v.Error != "away" || len(v.Endpoints) != 1 {
			t.Errorf("view %+v", v)
		}
		s.mu.Lock()
		back = true
		s.mu.Unlock()
		time.Sleep(maxBackoff + time.Second)
		synctest.Wait()
		if n := len(s.askedFor("serve-search-main")); n < 3 {
			t.Errorf("the service was asked for %d times", n)
		}
		if v := w.View(); v.Error != "" || v.Endpoints[0].Address == "127.0.0.1:9001" {
			t.Errorf("view %+v", v)
		}
	})
}

func TestUpdatesTickOnlyForChanges(t *testing.T) {
	s := &script{
		table: func(ctx context.Context, n int, _ uint64, _ time.Duration) ([]storedEntry, uint64, error) {
			// The index moves each second, for another's sake.
			return []storedEntry{stored("search", 90)}, 90 + uint64(n), idle(ctx, time.Second)
		},
		health: func(ctx context.Context, n int, _ uint64, _ time.Duration) ([]instance, uint64, error) {
			return []instance{{id: "i", endpoint: endpoint("search", "r1", 9001)}}, 95 + uint64(n), idle(ctx, time.Second)
		},
	}
	inBubble(t, s, func(t *testing.T, w *Watcher) {
		t.Helper()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		<-w.Updates()
		before := w.view.Load()
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case <-w.Updates():
			t.Error("ticked without a change")
		default:
		}
		if w.view.Load() != before {
			t.Error("published without a change")
		}
	})
}

func TestReadInstances(t *testing.T) {
	tests := map[string]struct {
		change func(f *api.ServiceEntry)
		want   string // the fault, or the address
	}{
		"its own address":              {func(*api.ServiceEntry) {}, "127.0.0.1:9001"},
		"the node's address when none": {func(f *api.ServiceEntry) { f.Service.Address = "" }, "10.0.0.1:9001"},
		"an IPv6 address":              {func(f *api.ServiceEntry) { f.Service.Address = "fd00::1" }, "[fd00::1]:9001"},
		"a host name":                  {func(f *api.ServiceEntry) { f.Service.Address = "gpu-1.example" }, "gpu-1.example:9001"},
		"no port":                      {func(f *api.ServiceEntry) { f.Service.Port = 0 }, "its port is 0"},
		"a port too high":              {func(f *api.ServiceEntry) { f.Service.Port = 65536 }, "its port is 65536"},
		"a negative port":              {func(f *api.ServiceEntry) { f.Service.Port = -1 }, "its port is -1"},
		"the cloud's metadata address": {func(f *api.ServiceEntry) { f.Service.Address = "169.254.169.254" }, "none that a replica can have"},
		"the same, dressed as IPv6":    {func(f *api.ServiceEntry) { f.Service.Address = "::ffff:169.254.169.254" }, "none that a replica can have"},
		"the unspecified address":      {func(f *api.ServiceEntry) { f.Service.Address = "0.0.0.0" }, "none that a replica can have"},
		"an address with a port":       {func(f *api.ServiceEntry) { f.Service.Address = "10.0.0.1:80" }, "neither an IP address"},
		"an address of digits":         {func(f *api.ServiceEntry) { f.Service.Address = "10.0.0.999" }, "neither an IP address"},
		"an address with a line break": {func(f *api.ServiceEntry) { f.Service.Address = "a\r\nHost: b" }, "neither an IP address"},
		"no replica id":                {func(f *api.ServiceEntry) { delete(f.Service.Meta, "serve_replica") }, "meta serve_replica"},
		"no version":                   {func(f *api.ServiceEntry) { f.Service.Meta["serve_version"] = "" }, "meta serve_version"},
		"a replica id without end":     {func(f *api.ServiceEntry) { f.Service.Meta["serve_replica"] = string(make([]byte, 5000)) }, "meta serve_replica"},
	}
	for name, tt := range tests {
		t.Run("with "+name, func(t *testing.T) {
			e := replica("search", "r1", 9001)
			tt.change(e)
			got := readInstances([]*api.ServiceEntry{e, nil, {}})
			if len(got) != 1 {
				t.Fatalf("got %+v", got)
			}
			if got[0].fault == "" && got[0].endpoint.Address != tt.want {
				t.Errorf("address %q, want %q", got[0].endpoint.Address, tt.want)
			}
			if got[0].fault != "" && !strings.Contains(got[0].fault, tt.want) {
				t.Errorf("fault %q, want %q", got[0].fault, tt.want)
			}
		})
	}
	t.Run("of two that claim to be one replica, the first to be registered is it", func(t *testing.T) {
		first, second := replica("search", "r1", 9001), replica("search", "r1", 9002)
		first.Service.ID, first.Service.CreateIndex = "z", 5
		second.Service.ID, second.Service.CreateIndex = "a", 6
		got := readInstances([]*api.ServiceEntry{second, first})
		if got[0].fault != "" || got[0].endpoint.Address != "127.0.0.1:9001" || got[1].fault == "" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("without a check of its own it does not pass", func(t *testing.T) {
		e := replica("search", "r1", 9001)
		e.Checks = append(e.Checks[:1], nil)
		if got := readInstances([]*api.ServiceEntry{e}); got[0].endpoint.Passing || got[0].fault != "" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("on a node that fails it does not pass", func(t *testing.T) {
		e := replica("search", "r1", 9001)
		e.Checks[0].Status = "critical"
		if got := readInstances([]*api.ServiceEntry{e}); got[0].endpoint.Passing || got[0].untested {
			t.Errorf("got %+v", got)
		}
	})
}

// TestUnproven has a replica fail for each reason that Consul can give.
func TestUnproven(t *testing.T) {
	check := func(id, service, status string) *api.HealthCheck {
		return &api.HealthCheck{CheckID: id, ServiceID: service, Status: status}
	}
	const own = "_nomad-task-r1"
	for name, tt := range map[string]struct {
		checks api.HealthChecks
		want   bool
	}{
		"it passes":                          {api.HealthChecks{check("serfHealth", "", "passing"), check("c", own, "passing")}, false},
		"its check has not run, or fails":    {api.HealthChecks{check("serfHealth", "", "passing"), check("c", own, "critical")}, true},
		"its check warns":                    {api.HealthChecks{check("serfHealth", "", "passing"), check("c", own, "warning")}, true},
		"its check is not registered yet":    {api.HealthChecks{check("serfHealth", "", "passing")}, true},
		"its node fails":                     {api.HealthChecks{check("serfHealth", "", "critical"), check("c", own, "passing")}, false},
		"its node fails, and it does too":    {api.HealthChecks{check("serfHealth", "", "critical"), check("c", own, "critical")}, false},
		"its node is in maintenance":         {api.HealthChecks{check(api.NodeMaint, "", "critical"), check("c", own, "critical")}, false},
		"it is in maintenance":               {api.HealthChecks{check(api.ServiceMaintPrefix+own, own, "critical"), check("c", own, "critical")}, false},
		"it is in maintenance, before tests": {api.HealthChecks{check(api.ServiceMaintPrefix+own, own, "critical")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := replica("search", "r1", 9001)
			e.Checks = tt.checks
			if got := readInstances([]*api.ServiceEntry{e})[0].endpoint; got.Unproven != tt.want {
				t.Errorf("unproven %v, want %v", got.Unproven, tt.want)
			}
		})
	}
}

func TestAServiceShowsOnlyItsOwners(t *testing.T) {
	s := &service{owners: owners{{"search", "main"}: true}, held: map[string]heldReplica{}}
	s.read([]instance{
		{id: "1", endpoint: endpoint("search", "r1", 9001)},
		{id: "2", endpoint: endpoint("bank", "r2", 9002)},
		{id: "3", fault: "its port is 0"},
	}, false, time.Time{})
	got, notes := s.endpoints()
	if len(got) != 1 || got[0] != endpoint("search", "r1", 9001) || len(notes) != 2 {
		t.Errorf("got %+v, notes %q", got, notes)
	}
	if _, notes = s.endpoints(); len(notes) != 0 {
		t.Errorf("says again %q", notes)
	}
}

func TestTwoApplicationsWithOnePrefix(t *testing.T) {
	entry := func(application, prefix string, created uint64) storedEntry {
		r := route(application)
		r.RoutePrefix = prefix
		value, err := encodeEntry(r)
		if err != nil {
			t.Fatal(err)
		}
		return storedEntry{application, value, created, created}
	}
	prefixes := func(table *table) map[string]string {
		got := map[string]string{}
		for application, e := range table.good {
			got[application] = e.route.RoutePrefix
		}
		return got
	}
	check := func(t *testing.T, table *table, want map[string]string) {
		t.Helper()
		got := prefixes(table)
		for application := range want {
			if got[application] != want[application] || len(got) != len(want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	}
	t.Run("the older has it", func(t *testing.T) {
		table := newTable()
		notes := table.read([]storedEntry{entry("a", "/x", 9), entry("b", "/x", 5)}, false, time.Time{})
		check(t, table, map[string]string{"b": "/x"})
		if len(notes) != 1 {
			t.Errorf("notes %q", notes)
		}
	})
	t.Run("who had it keeps it, and the other keeps what it had", func(t *testing.T) {
		table := newTable()
		table.read([]storedEntry{entry("a", "/a", 1), entry("b", "/b", 5)}, false, time.Time{})
		table.read([]storedEntry{entry("a", "/b", 1), entry("b", "/b", 5)}, false, time.Time{})
		check(t, table, map[string]string{"a": "/a", "b": "/b"})
		var view routes.View
		table.fill(&view)
		if view.Kept["a"] == "" || view.Kept["b"] != "" {
			t.Errorf("kept %v", view.Kept)
		}
	})
	t.Run("two may swap", func(t *testing.T) {
		table := newTable()
		table.read([]storedEntry{entry("a", "/a", 1), entry("b", "/b", 5)}, false, time.Time{})
		table.read([]storedEntry{entry("a", "/b", 1), entry("b", "/b", 5)}, false, time.Time{})
		table.read([]storedEntry{entry("a", "/b", 1), entry("b", "/a", 5)}, false, time.Time{})
		check(t, table, map[string]string{"a": "/b", "b": "/a"})
	})
}
