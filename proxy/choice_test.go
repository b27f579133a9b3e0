package proxy

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/fairqueue"
	"github.com/serve-nomad/serve-nomad/routes"
)

// saying is a ticket of a request with these headers.
func saying(g *gate, headers ...string) *ticket {
	t := g.ticket(time.Time{})
	t.header = http.Header{}
	for i := 0; i < len(headers); i += 2 {
		t.header.Set(headers[i], headers[i+1])
	}
	t.key = affinity(t.header)
	return t
}

func TestChoice(t *testing.T) {
	t.Parallel()
	scenario := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, f)
		})
	}
	fail := func(t *testing.T, g *gate, status, times int) {
		t.Helper()
		for range times {
			s := mustAcquire(t, g)
			if status == 0 {
				s.failed()
			} else {
				s.answered(status)
			}
			s.release()
		}
	}

	scenario("a session keeps to its replica while that has a free slot", func(t *testing.T) {
		g := openGate(1, -1, "a", "b", "c", "d")
		first := enqueue(g, saying(g, "serve-session-id", "x"))
		home := first.slot.replica.id
		second := enqueue(g, saying(g, "serve-session-id", "x"))
		if !second.ended() || second.slot.replica.id == home {
			t.Fatal("waited, or got a slot beyond the limit")
		}
		first.slot.release()
		second.slot.release()
		for range 20 {
			w := enqueue(g, saying(g, "serve-session-id", "x"))
			if w.slot.replica.id != home {
				t.Errorf("went to %s, not %s", w.slot.replica.id, home)
			}
			w.slot.release()
		}
	})

	scenario("a model decides before a session", func(t *testing.T) {
		g := openGate(1, -1, "a", "b", "c", "d", "e", "f")
		m := enqueue(g, saying(g, "serve-model-id", "m"))
		m.slot.release()
		for _, session := range []string{"1", "2", "3", "4"} {
			w := enqueue(g, saying(g, "serve-model-id", "m", "serve-session-id", session))
			if w.slot.replica != m.slot.replica {
				t.Error("the session decided")
			}
			w.slot.release()
		}
	})

	scenario("what requests say of their place is believed only where it shall be", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		first := enqueue(g, saying(g, "serve-priority", "low", "serve-fairness-key", "x"))
		second := enqueue(g, saying(g, "serve-priority", "high"))
		held.release()
		if !first.ended() || second.ended() {
			t.Error("not in order of arrival")
		}
		first.slot.release()
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
			held.release()
			if !ws[i].ended() {
				t.Fatalf("waiter %d was not served in its turn", i)
			}
			held = ws[i].slot
		}
	})

	scenario("refuses what would hold too many bytes, and takes it when there is room", func(t *testing.T) {
		g := openGate(1, -1, "a")
		g.limits = &atomic.Pointer[Limits]{}
		g.limits.Store(&Limits{MaxQueuedBytes: 2*waitingFixed + 1000})
		held := mustAcquire(t, g)
		first := enqueue(g, saying(g))
		var full *queueFullError
		if w := enqueue(g, saying(g, "x", strings.Repeat("x", 1000))); !errors.As(w.err, &full) || full.code() != codeQueueBytes || full.full != fairqueue.TooLarge {
			t.Errorf("got %v", w.err)
		}
		second := enqueue(g, saying(g, "x", strings.Repeat("x", 999)))
		if second.ended() {
			t.Errorf("got %v", second.err)
		}
		second.cancel()
		first.cancel()
		synctest.Wait()
		if n := g.status().QueuedBytes; n != 0 {
			t.Errorf("%d bytes are queued when nobody waits", n)
		}
		held.release()
	})

	scenario("a replica that fails is left alone, and returns by a trial", func(t *testing.T) {
		g := openGate(2, -1, "a", "b")
		for g.status().Ejections == 0 {
			s := mustAcquire(t, g)
			if s.replica.id == "a" {
				s.failed()
			} else {
				s.answered(http.StatusOK)
			}
			s.release()
		}
		st := g.status().Replicas[0]
		if st.EjectedFor != "gateway errors in a row" || time.Until(st.EjectedUntil) != 5*time.Second {
			t.Errorf("status %+v", st)
		}
		b1, b2 := mustAcquire(t, g), mustAcquire(t, g)
		if b1.replica.id != "b" || b2.replica.id != "b" {
			t.Fatal("sent to the one that failed")
		}
		w := enqueue(g, g.ticket(time.Time{}))
		next := enqueue(g, g.ticket(time.Time{}))
		time.Sleep(5*time.Second - 1)
		if w.ended() {
			t.Fatal("sent while it is left alone")
		}
		time.Sleep(time.Nanosecond)
		if !w.ended() || w.slot.replica.id != "a" || !g.status().Replicas[0].Trial {
			t.Fatal("no trial when its time was over")
		}
		if next.ended() {
			t.Fatal("more than one request in a trial")
		}
		w.slot.answered(http.StatusOK)
		if !next.ended() || next.slot.replica.id != "a" || !g.status().Replicas[0].SlowStart {
			t.Error("not back although it answered")
		}
		for _, s := range []*slot{b1, b2, w.slot, next.slot} {
			s.release()
		}
	})

	scenario("the only replica is never ejected, and a 500 is no reason", func(t *testing.T) {
		g := openGate(2, -1, "a")
		fail(t, g, 0, 20)
		g.configure(deployment(2, -1), endpoints("a", "b", "c"), nil)
		fail(t, g, http.StatusInternalServerError, 50)
		if n := g.status().Ejections; n != 0 {
			t.Errorf("%d ejections", n)
		}
	})

	scenario("a request's time that ran out is held against who had it", func(t *testing.T) {
		g := openGate(9, -1, "a", "b", "c")
		for range 100 {
			arrived := time.Now()
			time.Sleep(6 * time.Second) // in the queue, say
			s := mustAcquire(t, g)
			s.late(arrived, arrived.Add(10*time.Second))
			s.release()
		}
		if n := g.status().Ejections; n != 0 {
			t.Errorf("%d ejections of replicas that had no time", n)
		}
		for range 20 {
			arrived := time.Now()
			s := mustAcquire(t, g)
			s.late(arrived, arrived.Add(10*time.Second))
			s.release()
		}
		if n := g.status().Ejections; n != 1 {
			t.Errorf("%d ejections of replicas that had all the time", n)
		}
	})

	scenario("checks that most replicas fail at once are doubted", func(t *testing.T) {
		g := openGate(1, -1, "a", "b", "c", "d")
		free := func(es ...routes.Endpoint) (n int) {
			g.configure(deployment(1, -1), es, nil)
			var held []*slot
			for {
				w := enqueue(g, g.ticket(time.Time{}))
				w.cancel()
				if !w.ended() || w.slot == nil {
					break
				}
				held = append(held, w.slot)
			}
			for _, s := range held {
				s.release()
			}
			return len(held)
		}
		es := endpoints("a", "b", "c", "d")
		for i, want := range []int{3, 2, 4, 4} { // that many of the rest pass
			es[i].Passing, es[i].Unproven = false, true
			if got := free(es...); got != want || g.status().ChecksIgnored != (i >= 2) {
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
			mustAcquire(t, g).release()
		}
		for g.mayResend() {
			n++
		}
		if n != 250 || g.status().ResendsDenied != 1 {
			t.Errorf("%d of 1000 sent again, %d denied", n, g.status().ResendsDenied)
		}
	})

	scenario("a replica on the proxy's own host is preferred while it has a free slot", func(t *testing.T) {
		g := newGate("app", "main")
		g.host = "b"
		es := endpoints("a", "b", "c")
		g.configure(deployment(2, -1), es, nil)
		got := map[string]int{}
		for range 6 {
			s := mustAcquire(t, g)
			got[s.replica.id]++
			if len(got) == 1 && s.replica.id != "b" {
				t.Errorf("the first went to %s", s.replica.id)
			}
		}
		if got["b"] != 2 {
			t.Errorf("got %v", got)
		}
	})
}
