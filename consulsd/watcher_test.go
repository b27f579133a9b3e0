package consulsd

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watch runs a Watcher on the fake until the test ends.
func watch(t *testing.T, c *Client) *Watcher {
	t.Helper()
	w := NewWatcher(c)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

// sees waits until the view is want, but for the indexes.
func sees(t *testing.T, w *Watcher, what string, want routes.View) {
	t.Helper()
	options := cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(routes.View{}, "Index", "Kept")}
	eventually(t, what, func() bool {
		if cmp.Equal(want, w.View(), options) {
			return true
		}
		if t.Context().Err() != nil {
			t.Log(cmp.Diff(want, w.View(), options))
		}
		return false
	})
}

func TestWatcherFollowsConsul(t *testing.T) {
	f := newFakeConsul(t)
	w := watch(t, f.client(Config{}))
	updates, cancel := w.Subscribe()
	defer cancel()
	sees(t, w, "an empty table", routes.View{Known: true})
	ticks(t, updates)
	ticks(t, w.Updates())

	index := f.putRoute(route("search"))
	f.register("serve-search-main", replica("search", "r1", 9001), critical(replica("search", "r2", 9002), "refused"))
	second := endpoint("search", "r2", 9002)
	second.Passing, second.Unproven = false, true
	sees(t, w, "the route with its replicas", routes.View{
		Known:     true,
		Table:     routes.Table{"search": route("search")},
		Endpoints: []routes.Endpoint{endpoint("search", "r1", 9001), second},
	})
	if got := w.View().Index["search"]; got != index {
		t.Errorf("index %d, want %d", got, index)
	}
	ticks(t, updates)
	ticks(t, w.Updates())

	f.putRoute(route("another"))
	f.register("serve-another-main", replica("another", "r3", 9003))
	f.register("serve-search-main")
	sees(t, w, "a second application, and the first without replicas", routes.View{
		Known:     true,
		Table:     routes.Table{"search": route("search"), "another": route("another")},
		Endpoints: []routes.Endpoint{endpoint("another", "r3", 9003)},
	})

	f.drop("serve-nomad/routes/another")
	f.drop("serve-nomad/routes/search")
	sees(t, w, "nothing", routes.View{Known: true})
	if kept := w.View().Kept; len(kept) != 0 {
		t.Errorf("kept %v of what was deleted", kept)
	}
}

func TestWatcherKeepsTheLastGoodState(t *testing.T) {
	f := newFakeConsul(t)
	f.putRoute(route("search"))
	f.register("serve-search-main", replica("search", "r1", 9001))
	good := routes.View{
		Known:     true,
		Table:     routes.Table{"search": route("search")},
		Endpoints: []routes.Endpoint{endpoint("search", "r1", 9001)},
	}
	w := watch(t, f.client(Config{}))
	sees(t, w, "the route", good)

	faults := map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"errors of Consul's":           {status(500, "No cluster leader"), "No cluster leader"},
		"a cut connection":             {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "does not answer"},
		"an index of 0":                {indexed("0", `[]`), "not one of Consul's"},
		"no index":                     {status(404, ""), "not one of Consul's"},
		"half an answer":               {indexed("900", `[{"Key":"serve-nomad/rou`), "unexpected EOF"},
		"an answer of another kind":    {indexed("900", `{"Key":1}`), "cannot unmarshal"},
		"an index that is no number":   {indexed("many", `[]`), "not one of Consul's"},
		"a token that no longer holds": {status(403, "ACL not found"), "CONSUL_HTTP_TOKEN"},
	}
	for name, tt := range faults {
		t.Run("through "+name, func(t *testing.T) {
			f.breakWith(func(w http.ResponseWriter, r *http.Request) bool { tt.answer(w, r); return true })
			eventually(t, "an error that says "+tt.want, func() bool { return strings.Contains(w.View().Error, tt.want) })
			failing := w.View()
			failing.Error = "" // which of the queries failed last is left open
			if diff := cmp.Diff(good, failing, cmpopts.IgnoreFields(routes.View{}, "Index", "Kept")); diff != "" {
				t.Error(diff)
			}
			f.breakWith(nil)
			sees(t, w, "no error any more", good)
		})
	}
}

// The two times tell a Consul that is silent from one that has nothing new.
func TestWhenConsulAnsweredAndWhatItSaidChanged(t *testing.T) {
	f := newFakeConsul(t)
	f.putRoute(route("search"))
	if w := NewWatcher(f.client(Config{})); !w.Answered().IsZero() || !w.Changed().IsZero() {
		t.Errorf("before anything: %s, %s", w.Answered(), w.Changed())
	}
	w := watch(t, f.client(Config{}))
	good := routes.View{Known: true, Table: routes.Table{"search": route("search")}}
	sees(t, w, "the route", good)
	changed := w.Changed()
	f.breakWith(func(w http.ResponseWriter, _ *http.Request) bool {
		status(500, "No cluster leader")(w, nil)
		return true
	})
	eventually(t, "an error", func() bool { return w.View().Error != "" })
	answered := w.Answered()
	if answered.IsZero() || changed.IsZero() {
		t.Errorf("answered %s, changed %s", answered, changed)
	}
	f.breakWith(nil)
	sees(t, w, "no error any more", good)
	eventually(t, "it has answered again", func() bool { return w.Answered().After(answered) })
	if !w.Changed().Equal(changed) {
		t.Error("an error, and its end, count as a change")
	}
	f.putRoute(route("another"))
	sees(t, w, "another", routes.View{Known: true, Table: routes.Table{"search": route("search"), "another": route("another")}})
	if !w.Changed().After(changed) {
		t.Error("another application does not count as a change")
	}
}

func indexed(index, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", index)
		w.Header().Set("X-Consul-LastContact", "0")
		_, _ = w.Write([]byte(body))
	}
}

func TestWatcherNeverRead(t *testing.T) {
	f := newFakeConsul(t)
	f.breakWith(func(w http.ResponseWriter, r *http.Request) bool { status(500, "starting")(w, r); return true })
	w := watch(t, f.client(Config{}))
	eventually(t, "the fault", func() bool { return strings.Contains(w.View().Error, "starting") })
	if v := w.View(); v.Known || !strings.Contains(v.Error, f.server.URL) {
		t.Errorf("view %+v", v)
	}
	f.breakWith(nil)
	sees(t, w, "an empty table", routes.View{Known: true})
}

func TestWatcherOneServiceFails(t *testing.T) {
	f := newFakeConsul(t)
	f.putRoute(route("a"))
	f.putRoute(route("b"))
	f.register("serve-a-main", replica("a", "r1", 9001))
	f.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "serve-b-main") {
			status(500, "no")(w, r)
			return true
		}
		return false
	})
	w := watch(t, f.client(Config{}))
	eventually(t, "a view that says which service fails, and serves the other", func() bool {
		v := w.View()
		return v.Known && strings.Contains(v.Error, "serve-b-main") &&
			cmp.Equal(v.Endpoints, []routes.Endpoint{endpoint("a", "r1", 9001)})
	})
}

func TestWatcherConsulRestartsEmpty(t *testing.T) {
	f := newFakeConsul(t)
	f.putRoute(route("search"))
	f.register("serve-search-main", replica("search", "r1", 9001), replica("search", "r2", 9002))
	good := routes.View{
		Known:     true,
		Table:     routes.Table{"search": route("search")},
		Endpoints: []routes.Endpoint{endpoint("search", "r1", 9001), endpoint("search", "r2", 9002)},
	}
	w := watch(t, f.client(Config{}))
	sees(t, w, "the route", good)

	eventually(t, "both queries wait", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.open == 2
	})
	f.empty(3)
	f.server.CloseClientConnections()
	eventually(t, "a view that says that the entry is gone", func() bool {
		v := w.View()
		_, there := v.Index["search"]
		return !there && v.Kept["search"] != "" && v.Error == ""
	})
	sees(t, w, "the route and its replicas, kept", good)
	if written := w.View().Written(); len(written) != 0 {
		t.Errorf("shows %v as written", written)
	}

	// The agent registers one replica anew, its check not yet run; the leader
	// writes the route.
	f.register("serve-search-main", critical(replica("search", "r1", 9001), ""))
	f.putRoute(route("search"))
	eventually(t, "the entry is written again", func() bool { return len(w.View().Kept) == 0 })
	sees(t, w, "both replicas, kept", good)

	// Its check fails: now it is known to.
	f.register("serve-search-main", critical(replica("search", "r1", 9001), "refused"), replica("search", "r2", 9002))
	failed := good
	failed.Endpoints = []routes.Endpoint{endpoint("search", "r1", 9001), endpoint("search", "r2", 9002)}
	failed.Endpoints[0].Passing, failed.Endpoints[0].Unproven = false, true
	sees(t, w, "the replica that fails", failed)

	f.register("serve-search-main", replica("search", "r2", 9002))
	failed.Endpoints = failed.Endpoints[1:]
	sees(t, w, "the other alone", failed)
}

func TestWatcherGarbageInTheTable(t *testing.T) {
	f := newFakeConsul(t)
	f.putRoute(route("search"))
	w := watch(t, f.client(Config{}))
	good := routes.View{Known: true, Table: routes.Table{"search": route("search")}}
	sees(t, w, "the route", good)

	index := f.put("serve-nomad/routes/search", []byte("{"))
	f.put("serve-nomad/routes/", nil)
	f.put("serve-nomad/routes/huge", []byte(strings.Repeat("x", 600<<10)))
	f.put("serve-nomad/routes/other", []byte(strings.ReplaceAll(routeJSON, "/a", "/x")))
	f.put("serve-nomad/routes/a/b", []byte(routeJSON))
	f.put("serve-nomad/routes/é", []byte(routeJSON))
	thief := route("thief")
	thief.RoutePrefix = "/search"
	last := f.putRoute(thief)
	eventually(t, "all of it is read", func() bool { return w.View().Index["thief"] == last })
	sees(t, w, "the last good entry, and none of the rest", good)
	v := w.View()
	if v.Index["search"] != index || v.Kept["search"] == "" || len(v.Written()) != 0 {
		t.Errorf("index %v, kept %v, written %v", v.Index, v.Kept, v.Written())
	}

	f.putRoute(route("search"))
	eventually(t, "the entry is good again", func() bool { return len(w.View().Kept) == 0 })
	sees(t, w, "the route", good)
}

func TestWatcherManyServicesShareQueries(t *testing.T) {
	f := newFakeConsul(t)
	const services, most = 12, 4
	for i := range services {
		name := fmt.Sprintf("a%d", i)
		f.putRoute(route(name))
		f.register("serve-"+name+"-main", replica(name, "r"+name, 9000+i))
	}
	w := watch(t, f.client(Config{MaxQueries: most}))
	eventually(t, "every replica is seen", func() bool { return len(w.View().Endpoints) == services })
	f.register("serve-a7-main")
	eventually(t, "a change is seen", func() bool { return len(w.View().Endpoints) == services-1 })
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mostOpen > most+1 { // and one for the table
		t.Errorf("%d queries at once, over %d", f.mostOpen, most+1)
	}
}

// ticks waits for a tick.
func ticks(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("no tick within 10 s")
	}
}
