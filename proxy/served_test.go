package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// twoVersions is a watched view with two versions in one gate.
func twoVersions(v1, v2 string) routes.View {
	v := amend(app{ongoing: 10, queued: -1, addresses: []string{v1, v2}}.view(), func(d *routes.Deployment) {
		d.Version, d.Also = "v2", []string{"v1"}
	})
	v.Endpoints[1].Version = "v2"
	route := v.Table["app"]
	route.Watched = true
	v.Table["app"] = route
	return v
}

func TestReportsOfWatchedApplications(t *testing.T) {
	t.Parallel()
	served := func(r arrival) map[string]string {
		said := map[string]string{}
		for _, s := range r.Served {
			said[s.Version] = fmt.Sprintf("%d of %d, %d ongoing", s.Errors, s.Requests, s.Ongoing)
		}
		return said
	}

	t.Run("come every second, and say what did not arrive before", func(t *testing.T) {
		inBubble(t, twoVersions("a:1", "b:1"), func(t *testing.T, b *bubble) {
			first := b.one(t)
			if first.Next != time.Second {
				t.Errorf("the next is said to come within %s", first.Next)
			}
			if d := cmp.Diff(map[string]string{"v1": "0 of 0, 0 ongoing", "v2": "0 of 0, 0 ongoing"}, served(first)); d != "" {
				t.Error(d)
			}
			var held []*waiting
			for range 2 {
				w := b.request()
				if !w.ended() {
					t.Fatal("no slot")
				}
				w.slot.Answered(map[string]int{"v1": 200, "v2": 500}[w.slot.Replica.Version])
				held = append(held, w)
			}
			b.answerWith(func(context.Context, loads.Report) error { return errors.New("no leader") })
			want := map[string]string{"v1": "0 of 1, 1 ongoing", "v2": "1 of 1, 1 ongoing"}
			for range 3 {
				time.Sleep(time.Second)
				for _, r := range b.take() {
					if d := cmp.Diff(want, served(r)); d != "" {
						t.Errorf("while none arrives: %s", d)
					}
				}
			}
			b.answerWith(nil)
			time.Sleep(time.Second)
			if d := cmp.Diff(want, served(b.one(t))); d != "" {
				t.Errorf("the one that arrives: %s", d)
			}
			for _, w := range held {
				w.slot.Release()
			}
			time.Sleep(time.Second)
			if d := cmp.Diff(map[string]string{"v1": "0 of 0, 0 ongoing", "v2": "0 of 0, 0 ongoing"}, served(b.one(t))); d != "" {
				t.Errorf("the one after: %s", d)
			}
		})
	})

	t.Run("say nothing of others", func(t *testing.T) {
		v := twoVersions("a:1", "b:1")
		route := v.Table["app"]
		route.Watched = false
		v.Table["app"] = route
		inBubble(t, v, func(t *testing.T, b *bubble) {
			if first := b.one(t); first.Served != nil || first.Next != reportIdle {
				t.Errorf("%+v", first)
			}
		})
	})

	t.Run("say how a generation is left that is gone from the table", func(t *testing.T) {
		view := gens{weights: map[int]int{7: 100}, watched: true, ongoing: 10, replicas: map[int][]string{0: {"a:1"}, 7: {"b:1"}}}
		inBubble(t, view.view(), func(t *testing.T, b *bubble) {
			g := b.gates[deploymentKey{"app", 7, "main"}]
			s, err := g.Acquire(t.Context(), g.Ticket(nil, time.Time{}))
			if err != nil {
				t.Fatal(err)
			}
			view.weights = nil
			b.discovery.set(view.view())
			synctest.Wait()
			b.take()
			time.Sleep(time.Second)
			if d := cmp.Diff(map[string]string{"v1": "0 of 0, 0 ongoing", "v1-g7": "0 of 0, 1 ongoing"}, served(b.one(t))); d != "" {
				t.Error(d)
			}
			s.Answered(200)
			s.Release()
			time.Sleep(time.Second)
			if d := cmp.Diff(map[string]string{"v1": "0 of 0, 0 ongoing", "v1-g7": "0 of 1, 0 ongoing"}, served(b.one(t))); d != "" {
				t.Error(d)
			}
			time.Sleep(time.Minute)
			b.take()
			if n := len(b.allGates()); n != 2 {
				t.Errorf("%d gates are left, want those of one generation", n)
			}
		})
	})

	t.Run("add up the load of the generations", func(t *testing.T) {
		view := gens{weights: map[int]int{7: 50}, watched: true, replicas: map[int][]string{0: {"a:1"}, 7: {"b:1"}}, queued: -1}
		inBubble(t, view.view(), func(t *testing.T, b *bubble) {
			b.one(t)
			acquire := func(generation int) {
				g := b.gates[deploymentKey{"app", generation, "main"}]
				go func() { _, _ = g.Acquire(t.Context(), g.Ticket(nil, time.Time{})) }()
				synctest.Wait()
			}
			acquire(0)
			time.Sleep(500 * time.Millisecond)
			acquire(7)
			acquire(7)
			time.Sleep(500 * time.Millisecond)
			if d := cmp.Diff([]loads.Deployment{{Application: "app", Deployment: "main", Ongoing: 2, Queued: 1, Mean: 2, Max: 3}}, b.one(t).Deployments); d != "" {
				t.Error(d)
			}
			b.gates[deploymentKey{"app", 7, "main"}].Close()
		})
	})

	t.Run("go on under another name with what has not been told", func(t *testing.T) {
		inBubble(t, twoVersions("a:1", "b:1"), func(t *testing.T, b *bubble) {
			b.one(t)
			w := b.request()
			w.slot.Answered(200)
			w.slot.Release()
			b.reporter.rename()
			time.Sleep(100 * time.Millisecond)
			if got := served(b.one(t)); got[w.slot.Replica.Version] != "0 of 1, 0 ongoing" {
				t.Errorf("got %v", got)
			}
		})
	})
}

func TestSumsOverGates(t *testing.T) {
	t.Parallel()
	one := loads.Served{Application: "a", Deployment: "b", Version: "v", Ongoing: 1, Requests: 2, Errors: 1, Latency: map[int]uint64{3: 1}}
	other := one
	other.Latency, other.Shadow = map[int]uint64{3: 2, 4: 1}, &loads.Shadowed{Requests: 1, Latency: map[int]uint64{1: 1}}
	third := loads.Served{Application: "a", Deployment: "b", Version: "w"}
	fourth := one
	fourth.Latency, fourth.Shadow = nil, &loads.Shadowed{Requests: 2, Errors: 1, Differing: 2, Dropped: 4, Primary: map[int]uint64{1: 1}}
	want := []loads.Served{{
		Application: "a", Deployment: "b", Version: "v", Ongoing: 3, Requests: 6, Errors: 3, Latency: map[int]uint64{3: 3, 4: 1},
		Shadow: &loads.Shadowed{Requests: 3, Errors: 1, Differing: 2, Dropped: 4, Latency: map[int]uint64{1: 1}, Primary: map[int]uint64{1: 1}},
	}, third}
	if d := cmp.Diff(want, overGates([]loads.Served{one, third, other, fourth})); d != "" {
		t.Error(d)
	}
}

// TestTriesAreCounted has requests meet replicas of all kinds, over real
// connections: each try counts against the version that it was sent to.
func TestTriesAreCounted(t *testing.T) {
	reset := rawReplica(t, func(nc net.Conn, br *bufio.Reader) {
		_, _ = http.ReadRequest(br)
		_ = nc.(*net.TCPConn).SetLinger(0)
	})
	afterOne := rawReplica(t, func(nc net.Conn, br *bufio.Reader) { // it dies over the second request of a connection
		if _, _, ok := readRequest(br); ok {
			fmt.Fprint(nc, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			readRequest(br)
		}
	})
	cut := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10000")
		_, _ = io.WriteString(w, strings.Repeat("half", 1250))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	slow := replicaServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	fails := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	good := named(t, "good")
	for _, test := range []struct {
		name, address          string
		requests               int // sent
		good, bad, errorsOfBad uint64
	}{
		{"one that fails", fails, 10, 5, 5, 5},
		{"one that resets", reset, 4, 2 + 2, 2, 2},
		{"one that dies over its second request", afterOne, 4, 2 + 1, 2, 1},
		{"one that breaks off", cut, 4, 2, 2, 2},
		{"one that is not there", dead, 3, 3, 1, 1},
		{"one that is late", slow, 2, 1, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := twoVersions(good, test.address)
			route := v.Table["app"]
			route.RequestTimeout = 300 * time.Millisecond
			v.Table["app"] = route
			// The report that a drain makes last is not looked at here.
			r := start(t, v, func(c *Config) {
				c.Loads, c.Name = &sink{answer: func(context.Context, loads.Report) error { return errors.New("no leader") }}, "p"
			})
			// One request after the other, so that a turn comes to each replica: the
			// one that is busy gets none. What is held here is of the other's.
			g := r.gates[deploymentKey{"app", 0, "main"}]
			for i := range test.requests {
				blockAllBut(t, g, []string{"v2", "v1"}[i%2], func() {
					res, err := r.client.Get(r.url + "/app")
					if err == nil {
						_, _ = io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				})
			}
			want := map[string][2]uint64{"v1": {test.good, 0}, "v2": {test.bad, test.errorsOfBad}}
			got := map[string][2]uint64{}
			eventually(t, "all is counted", func() bool {
				for _, s := range g.Served() {
					got[s.Version] = [2]uint64{s.Requests, s.Errors}
				}
				return cmp.Equal(got, want) || got["v1"][0]+got["v2"][0] >= test.good+test.bad
			})
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// blockAllBut has requests go to replicas of the version first, because others
// have many already: slots of copies, which count in nothing.
func blockAllBut(t *testing.T, g *gate.Gate, version string, do func()) {
	t.Helper()
	var held, kept []*gate.Slot
	for {
		s, err := g.TakeSpare(t.Context(), nil)
		if err != nil {
			break
		}
		if s.Replica.Version == version {
			kept = append(kept, s)
		} else {
			held = append(held, s)
		}
	}
	for _, s := range kept {
		s.Release()
	}
	if len(held) > 0 { // one is left for what has to be sent again
		held[0].Release()
		held = held[1:]
	}
	do()
	for _, s := range held {
		s.Release()
	}
}
