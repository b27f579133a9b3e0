package gate

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// saying is a ticket of a request with these headers.
func saying(g *Gate, headers ...string) *Ticket {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	return g.Ticket(h, time.Time{})
}

func TestChoice(t *testing.T) {
	t.Parallel()
	scenario := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, f)
		})
	}
	fail := func(t *testing.T, g *Gate, status, times int) {
		t.Helper()
		for range times {
			s := mustAcquire(t, g)
			if status == 0 {
				s.Failed()
			} else {
				s.Answered(status)
			}
			s.Release()
		}
	}

	scenario("a session keeps to its replica while that has a free slot", func(t *testing.T) {
		g := openGate(1, -1, "a", "b", "c", "d")
		first := enqueue(g, saying(g, "serve-session-id", "x"))
		home := first.slot.Replica.ID
		second := enqueue(g, saying(g, "serve-session-id", "x"))
		if !second.ended() || second.slot.Replica.ID == home {
			t.Fatal("waited, or got a slot beyond the limit")
		}
		first.slot.Release()
		second.slot.Release()
		for range 20 {
			w := enqueue(g, saying(g, "serve-session-id", "x"))
			if w.slot.Replica.ID != home {
				t.Errorf("went to %s, not %s", w.slot.Replica.ID, home)
			}
			w.slot.Release()
		}
	})

	scenario("a model decides before a session", func(t *testing.T) {
		g := openGate(1, -1, "a", "b", "c", "d", "e", "f")
		m := enqueue(g, saying(g, "serve-model-id", "m"))
		m.slot.Release()
		for _, session := range []string{"1", "2", "3", "4"} {
			w := enqueue(g, saying(g, "serve-model-id", "m", "serve-session-id", session))
			if w.slot.Replica != m.slot.Replica {
				t.Error("the session decided")
			}
			w.slot.Release()
		}
	})

	scenario("what requests say of their place is believed only where it shall be", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		first := enqueue(g, saying(g, "serve-priority", "low", "serve-fairness-key", "x"))
		second := enqueue(g, saying(g, "serve-priority", "high"))
		held.Release()
		if !first.ended() || second.ended() {
			t.Error("not in order of arrival")
		}
		first.slot.Release()
	})

	scenario("keys share, and a higher class is first", func(t *testing.T) {
		g := openGate(1, -1, "a")
		g.classed = true
		held := mustAcquire(t, g)
		var ws []*waiting
		for _, h := range []string{"a", "a", "b", "b", "-", "!"} {
			switch h {
			case "-":
				ws = append(ws, enqueue(g, saying(g, "serve-priority", "low")))
			case "!":
				ws = append(ws, enqueue(g, saying(g, "serve-priority", "high")))
			default:
				ws = append(ws, enqueue(g, saying(g, "serve-fairness-key", h)))
			}
		}
		for _, i := range []int{5, 0, 4, 2, 1, 3} {
			held.Release()
			if !ws[i].ended() {
				t.Fatalf("waiter %d was not served in its turn", i)
			}
			held = ws[i].slot
		}
	})

	scenario("refuses what would hold too many bytes, and takes it when there is room", func(t *testing.T) {
		g := openGate(1, -1, "a")
		g.maxQueuedBytes = &atomic.Int64{}
		g.maxQueuedBytes.Store(2*waitingFixed + 1000)
		held := mustAcquire(t, g)
		first := enqueue(g, saying(g))
		var full *FullError
		if w := enqueue(g, saying(g, "x", strings.Repeat("x", 1000))); !errors.As(w.err, &full) || !full.OfBytes {
			t.Errorf("got %v", w.err)
		}
		second := enqueue(g, saying(g, "x", strings.Repeat("x", 999)))
		if second.ended() {
			t.Errorf("got %v", second.err)
		}
		second.cancel()
		first.cancel()
		synctest.Wait()
		if n := g.Status().QueuedBytes; n != 0 {
			t.Errorf("%d bytes are queued when nobody waits", n)
		}
		held.Release()
	})

	scenario("a replica that fails is left alone, and returns by a trial", func(t *testing.T) {
		g := openGate(2, -1, "a", "b")
		for g.Status().Ejections == 0 {
			s := mustAcquire(t, g)
			if s.Replica.ID == "a" {
				s.Failed()
			} else {
				s.Answered(http.StatusOK)
			}
			s.Release()
		}
		st := g.Status().Replicas[0]
		if st.EjectedFor != "gateway errors in a row" || time.Until(st.EjectedUntil) != 5*time.Second {
			t.Errorf("status %+v", st)
		}
		b1, b2 := mustAcquire(t, g), mustAcquire(t, g)
		if b1.Replica.ID != "b" || b2.Replica.ID != "b" {
			t.Fatal("sent to the one that failed")
		}
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		next := enqueue(g, g.Ticket(nil, time.Time{}))
		time.Sleep(5*time.Second - 1)
		if w.ended() {
			t.Fatal("sent while it is left alone")
		}
		time.Sleep(time.Nanosecond)
		if !w.ended() || w.slot.Replica.ID != "a" || !g.Status().Replicas[0].Trial {
			t.Fatal("no trial when its time was over")
		}
		if next.ended() {
			t.Fatal("more than one request in a trial")
		}
		w.slot.Answered(http.StatusOK)
		if !next.ended() || next.slot.Replica.ID != "a" || !g.Status().Replicas[0].SlowStart {
			t.Error("not back although it answered")
		}
		for _, s := range []*Slot{b1, b2, w.slot, next.slot} {
			s.Release()
		}
	})

	scenario("the only replica is never ejected, and a 500 is no reason", func(t *testing.T) {
		g := openGate(2, -1, "a")
		fail(t, g, 0, 20)
		g.Configure(deployment(2, -1), endpoints("a", "b", "c"), nil)
		fail(t, g, http.StatusInternalServerError, 50)
		if n := g.Status().Ejections; n != 0 {
			t.Errorf("%d ejections", n)
		}
	})

	scenario("a request's time that ran out is held against who had it", func(t *testing.T) {
		g := openGate(9, -1, "a", "b", "c")
		for range 100 {
			arrived := time.Now()
			time.Sleep(6 * time.Second) // in the queue, say
			s := mustAcquire(t, g)
			s.Late(arrived, arrived.Add(10*time.Second))
			s.Release()
		}
		if n := g.Status().Ejections; n != 0 {
			t.Errorf("%d ejections of replicas that had no time", n)
		}
		for range 20 {
			arrived := time.Now()
			s := mustAcquire(t, g)
			s.Late(arrived, arrived.Add(10*time.Second))
			s.Release()
		}
		if n := g.Status().Ejections; n != 1 {
			t.Errorf("%d ejections of replicas that had all the time", n)
		}
	})

	scenario("checks that most replicas fail at once are doubted", func(t *testing.T) {
		g := openGate(1, -1, "a", "b", "c", "d")
		free := func(es ...routes.Endpoint) (n int) {
			g.Configure(deployment(1, -1), es, nil)
			var held []*Slot
			for {
				w := enqueue(g, g.Ticket(nil, time.Time{}))
				w.cancel()
				if !w.ended() || w.slot == nil {
					break
				}
				held = append(held, w.slot)
			}
			for _, s := range held {
				s.Release()
			}
			return len(held)
		}
		es := endpoints("a", "b", "c", "d")
		for i, want := range []int{3, 2, 4, 4} { // that many of the rest pass
			es[i].Passing, es[i].Unproven = false, true
			if got := free(es...); got != want || g.Status().ChecksIgnored != (i >= 2) {
				t.Errorf("with %d failing %d are used, want %d", i+1, got, want)
			}
		}
		es[0].Unproven = false // its node is down, or it is in maintenance
		if got := free(es...); got != 3 {
			t.Errorf("with one down %d are used", got)
		}
		if got := free(es[2:]...); got != 0 {
			t.Errorf("of two that fail %d are used", got)
		}
		es[2].Passing, es[3].Passing = true, true
		es = append(es, unproven("e"), unproven("f"), unproven("g"))
		if got := free(es[2:]...); got != 2 {
			t.Errorf("with new ones that have not passed yet %d are used", got)
		}
	})

	scenario("what is sent again is bounded by what comes", func(t *testing.T) {
		g := openGate(2, -1, "a")
		n := 0
		for range 1000 {
			mustAcquire(t, g).Release()
		}
		for g.MayResend() {
			n++
		}
		if n != 250 || g.Status().ResendsDenied != 1 {
			t.Errorf("%d of 1000 sent again, %d denied", n, g.Status().ResendsDenied)
		}
	})

	scenario("a replica on the proxy's own host is preferred while it has a free slot", func(t *testing.T) {
		g := New("app", 0, "main", Config{Log: hclog.NewNullLogger()})
		g.host = "b"
		es := endpoints("a", "b", "c")
		g.Configure(deployment(2, -1), es, nil)
		got := map[string]int{}
		for range 6 {
			s := mustAcquire(t, g)
			got[s.Replica.ID]++
			if len(got) == 1 && s.Replica.ID != "b" {
				t.Errorf("the first went to %s", s.Replica.ID)
			}
		}
		if got["b"] != 2 {
			t.Errorf("got %v", got)
		}
	})
}
