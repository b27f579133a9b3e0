package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/balance"
	"github.com/serve-nomad/serve-nomad/health"
	"github.com/serve-nomad/serve-nomad/routes"
)

func deployment(ongoing, queued int) routes.Deployment {
	return routes.Deployment{Version: "v1", MaxOngoingRequests: ongoing, MaxQueuedRequests: queued}
}

func endpoints(ids ...string) []routes.Endpoint {
	var es []routes.Endpoint
	for _, id := range ids {
		es = append(es, endpoint(id, id+":1"))
	}
	return es
}

func openGate(ongoing, queued int, ids ...string) *Gate {
	g := New("app", 0, "main", Config{Log: hclog.NewNullLogger()})
	g.Configure(deployment(ongoing, queued), endpoints(ids...), nil)
	return g
}

// waiting is an acquire that a test has under way.
type waiting struct {
	cancel context.CancelFunc
	ticket *Ticket
	done   chan struct{}
	slot   *Slot
	err    error
}

func enqueue(g *Gate, t *Ticket) *waiting {
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiting{cancel: cancel, ticket: t, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.slot, w.err = g.Acquire(ctx, t)
	}()
	synctest.Wait()
	return w
}

func (w *waiting) ended() bool {
	synctest.Wait()
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

func mustAcquire(t *testing.T, g *Gate) *Slot {
	t.Helper()
	w := enqueue(g, g.Ticket(nil, time.Time{}))
	if !w.ended() || w.err != nil {
		t.Fatalf("no slot at once: ended %v, error %v", w.ended(), w.err)
	}
	w.cancel()
	return w.slot
}

func TestGate(t *testing.T) {
	t.Parallel()
	scenario := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, f)
		})
	}

	scenario("spreads over the replicas with the fewest requests", func(t *testing.T) {
		g := openGate(2, -1, "a", "b", "c")
		var got []string
		for range 6 {
			got = append(got, mustAcquire(t, g).Replica.ID)
		}
		slices.Sort(got[:3])
		slices.Sort(got[3:])
		if diff := cmp.Diff([]string{"a", "b", "c", "a", "b", "c"}, got); diff != "" {
			t.Error(diff)
		}
	})

	scenario("breaks ties at random", func(t *testing.T) {
		seen := map[string]bool{}
		for range 200 {
			seen[mustAcquire(t, openGate(1, -1, "a", "b", "c")).Replica.ID] = true
		}
		if len(seen) != 3 {
			t.Errorf("only ever chose %v", seen)
		}
	})

	scenario("serves in order of arrival", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		var ws []*waiting
		for range 10 {
			ws = append(ws, enqueue(g, g.Ticket(nil, time.Time{})))
		}
		for i, w := range ws {
			if w.ended() {
				t.Fatalf("waiter %d was served before its turn", i)
			}
			held.Release()
			if !w.ended() || w.err != nil {
				t.Fatalf("waiter %d was not served in its turn: %v", i, w.err)
			}
			held = w.slot
		}
	})

	scenario("refuses past the queue's limit and says when to come back", func(t *testing.T) {
		g := openGate(1, 2, "a")
		held := mustAcquire(t, g)
		for range 5 { // one a second is finished
			time.Sleep(time.Second)
			held.Release()
			held = mustAcquire(t, g)
		}
		first, second := enqueue(g, g.Ticket(nil, time.Time{})), enqueue(g, g.Ticket(nil, time.Time{}))
		third := enqueue(g, g.Ticket(nil, time.Time{}))
		var full *FullError
		if !errors.As(third.err, &full) {
			t.Fatalf("the third got %v", third.err)
		}
		if full.RetryAfter < 3*time.Second || full.RetryAfter > 6*time.Second {
			t.Errorf("Retry-After %v for three requests at one a second", full.RetryAfter)
		}
		if first.ended() || second.ended() {
			t.Error("a waiter within the limit was refused")
		}
		first.cancel()
		second.cancel()
	})

	scenario("keeps no queue when its limit is zero", func(t *testing.T) {
		g := openGate(1, 0, "a")
		mustAcquire(t, g)
		var full *FullError
		if w := enqueue(g, g.Ticket(nil, time.Time{})); !errors.As(w.err, &full) {
			t.Errorf("got %v", w.err)
		}
	})

	scenario("has requests wait while there is no replica", func(t *testing.T) {
		g := openGate(2, -1)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Fatalf("did not wait: %v", w.err)
		}
		g.Configure(deployment(2, -1), endpoints("a"), nil)
		if !w.ended() || w.slot == nil || w.slot.Address != "a:1" {
			t.Errorf("was not served: %v", w.err)
		}
	})

	scenario("ends a wait at the deadline", func(t *testing.T) {
		g := openGate(2, -1)
		w := enqueue(g, g.Ticket(nil, time.Now().Add(3*time.Second)))
		time.Sleep(3*time.Second - time.Nanosecond)
		if w.ended() {
			t.Fatal("ended too early")
		}
		time.Sleep(time.Nanosecond)
		if !w.ended() || !errors.Is(w.err, ErrDeadline) {
			t.Errorf("got %v", w.err)
		}
		if got := g.Status().Queued; got != 0 {
			t.Errorf("%d still queued", got)
		}
	})

	scenario("a cancelled waiter leaves at once", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		first, second := enqueue(g, g.Ticket(nil, time.Time{})), enqueue(g, g.Ticket(nil, time.Time{}))
		first.cancel()
		if !first.ended() || !errors.Is(first.err, context.Canceled) {
			t.Fatalf("got %v", first.err)
		}
		held.Release()
		if !second.ended() || second.slot == nil {
			t.Error("the second was not served")
		}
	})

	scenario("a waiter that was cancelled as it got its slot passes it on", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		w, err := g.enter(g.Ticket(nil, time.Time{}), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		second := enqueue(g, g.Ticket(nil, time.Time{}))
		held.Release() // granted to w, which has not looked yet
		if second.ended() {
			t.Fatal("one slot was given twice")
		}
		g.abandon(w)
		if !second.ended() || second.slot == nil {
			t.Error("the slot was lost")
		}
	})

	scenario("counts a replica's requests while its endpoint is away", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		g.Configure(deployment(1, -1), nil, nil)
		g.Configure(deployment(1, -1), endpoints("a"), nil)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Fatal("the replica got two requests")
		}
		held.Release()
		if !w.ended() {
			t.Error("the slot was lost")
		}
	})

	scenario("counts a replica's requests over a change of version and back", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		v2 := deployment(1, -1)
		v2.Version = "v2"
		b := endpoint("b", "b:1")
		b.Version = "v2"
		g.Configure(v2, append(endpoints("a"), b), nil)
		if got := mustAcquire(t, g).Replica.ID; got != "b" {
			t.Fatalf("the new version's request went to %s", got)
		}
		g.Configure(deployment(1, -1), append(endpoints("a"), b), nil)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Fatal("a request went to a busy or an outdated replica")
		}
		held.Release()
		if !w.ended() || w.slot.Replica.ID != "a" {
			t.Error("the slot was lost")
		}
	})

	scenario("counts a replica's requests while its application is away", func(t *testing.T) {
		g := openGate(1, -1, "a")
		held := mustAcquire(t, g)
		if g.Close() {
			t.Fatal("the gate could be forgotten with a request under way")
		}
		g.Configure(deployment(1, -1), endpoints("a"), nil)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Error("the replica got two requests")
		}
		w.cancel()
		synctest.Wait()
		held.Release()
		if !g.Close() {
			t.Error("the gate cannot be forgotten with nothing under way")
		}
	})

	scenario("after the limit is lowered sends nothing until below it", func(t *testing.T) {
		g := openGate(3, -1, "a")
		held := []*Slot{mustAcquire(t, g), mustAcquire(t, g), mustAcquire(t, g)}
		g.Configure(deployment(1, -1), endpoints("a"), nil)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		held[0].Release()
		held[1].Release()
		if w.ended() {
			t.Fatal("sent at the limit")
		}
		held[2].Release()
		if !w.ended() {
			t.Error("not sent below the limit")
		}
	})

	scenario("after the limit is raised serves those who wait", func(t *testing.T) {
		g := openGate(1, -1, "a")
		mustAcquire(t, g)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		g.Configure(deployment(2, -1), endpoints("a"), nil)
		if !w.ended() {
			t.Error("not served")
		}
	})

	scenario("sends nothing to a replica that does not pass or is of another version", func(t *testing.T) {
		g := New("app", 0, "main", Config{Log: hclog.NewNullLogger()})
		bad := endpoint("a", "a:1")
		bad.Passing = false
		old := endpoint("b", "b:1")
		old.Version = "v0"
		g.Configure(deployment(5, -1), []routes.Endpoint{bad, old, {Replica: "c", Version: "v1", Passing: true}}, nil)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		if w.ended() {
			t.Errorf("sent to %v", w.slot)
		}
		w.cancel()
	})

	scenario("sends everyone away when the deployment is gone", func(t *testing.T) {
		g := openGate(1, -1)
		w := enqueue(g, g.Ticket(nil, time.Time{}))
		g.Close()
		if !w.ended() || !errors.Is(w.err, ErrGone) {
			t.Errorf("got %v", w.err)
		}
		if w := enqueue(g, g.Ticket(nil, time.Time{})); !errors.Is(w.err, ErrGone) {
			t.Errorf("afterwards got %v", w.err)
		}
	})

	scenario("leaves a replica alone that could not be reached, longer each time", func(t *testing.T) {
		g := openGate(1, -1, "a")
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second} {
			s := mustAcquire(t, g)
			if got := s.Unreachable(); got != want {
				t.Errorf("avoided for %v, want %v", got, want)
			}
			w := enqueue(g, g.Ticket(nil, time.Time{}))
			time.Sleep(want - time.Nanosecond)
			if w.ended() {
				t.Fatal("sent to a suspect")
			}
			time.Sleep(time.Nanosecond)
			if !w.ended() {
				t.Fatal("stranded after the suspicion ended")
			}
			w.slot.Release()
		}
		s := mustAcquire(t, g)
		s.Reached()
		if got := s.Unreachable(); got != time.Second {
			t.Errorf("after it was reached avoided for %v", got)
		}
	})

	scenario("dials that fail at the same time are one reason to leave a replica alone", func(t *testing.T) {
		g := openGate(5, -1, "a")
		var slots []*Slot
		for range 5 {
			slots = append(slots, mustAcquire(t, g))
		}
		for _, s := range slots {
			if got := s.Unreachable(); got != time.Second {
				t.Errorf("avoided for %v", got)
			}
		}
	})

	scenario("a request that comes back keeps its place", func(t *testing.T) {
		g := openGate(1, -1, "a")
		first := enqueue(g, g.Ticket(nil, time.Time{}))
		second := enqueue(g, g.Ticket(nil, time.Time{}))
		first.slot.Unreachable()
		if second.ended() {
			t.Fatal("sent to a suspect")
		}
		again := enqueue(g, first.ticket)
		time.Sleep(time.Second)
		if !again.ended() || second.ended() {
			t.Error("the request that came back lost its place")
		}
		again.slot.Release()
		if !second.ended() {
			t.Error("stranded")
		}
	})

	scenario("a request that comes back is not refused by a full queue", func(t *testing.T) {
		g := openGate(1, 1, "a")
		first := enqueue(g, g.Ticket(nil, time.Time{}))
		second := enqueue(g, g.Ticket(nil, time.Time{}))
		first.slot.Unreachable()
		again := enqueue(g, first.ticket)
		if again.ended() {
			t.Errorf("got %v", again.err)
		}
		again.cancel()
		second.cancel()
	})

	scenario("avoids the replica that failed a request, unless it is the only one", func(t *testing.T) {
		g := openGate(2, -1, "a", "b")
		for range 2 {
			k := g.Ticket(nil, time.Time{})
			k.Avoid = "a"
			if w := enqueue(g, k); w.slot.Replica.ID != "b" {
				t.Error("did not avoid the replica")
			}
		}
		k := g.Ticket(nil, time.Time{})
		k.Avoid = "a"
		if w := enqueue(g, k); !w.ended() || w.slot.Replica.ID != "a" {
			t.Error("waited although a replica was free")
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	var d drainRate
	if got := d.retryAfter(start, 10, 0); got != unknownRetryAfter {
		t.Errorf("with nothing finished: %v", got)
	}
	if got := d.retryAfter(start, 10, 1); got != 8*time.Second {
		t.Errorf("with nothing finished, and luck: %v", got)
	}
	for i := range 100 { // ten a second
		d.add(start.Add(time.Duration(i) * 100 * time.Millisecond))
	}
	end := start.Add(9900 * time.Millisecond)
	for length, want := range map[int]time.Duration{1: time.Second, 10: time.Second, 55: 6 * time.Second, 100000: time.Minute} {
		if got := d.retryAfter(end, length, 0); got != want {
			t.Errorf("for %d at ten a second: %v, want %v", length, got, want)
		}
	}
	if got := d.retryAfter(end, 55, 0.99); got != 9*time.Second {
		t.Errorf("with luck: %v", got)
	}
	if got := d.retryAfter(end.Add(time.Minute), 10, 0); got != unknownRetryAfter {
		t.Errorf("a minute later: %v", got)
	}
}

// TestGateLaws drives a gate at random and holds it, after every step, to what
// it promises.
func TestGateLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		// rapid ends a run by a panic, which has to leave the bubble first.
		var ended any
		synctest.Test(t, func(*testing.T) {
			defer func() { ended = recover() }()
			m := newGateModel()
			defer m.end()
			for range rapid.IntRange(1, 60).Draw(rt, "steps") {
				m.step(rt)
				m.check(rt)
			}
		})
		if ended != nil {
			panic(ended)
		}
	})
}

// gateModel is what the test knows of a gate.
type gateModel struct {
	g       *Gate
	limit   int
	closed  bool
	alive   []string // requests may be sent to these
	lately  []string // and to these until they were asked again
	listed  []routes.Endpoint
	passed  map[string]bool // since it was listed
	heard   map[string]bool // it is live by its word
	held    map[string]int
	slots   []*Slot
	copies  []*Slot    // those of copies
	waiters []*waiting // in order of arrival

	mu      sync.Mutex
	answers map[string]bool // by address: it says that it can serve
}

func newGateModel() *gateModel {
	m := &gateModel{g: openGate(2, -1), limit: 2, held: map[string]int{}, passed: map[string]bool{}, heard: map[string]bool{}, answers: map[string]bool{}}
	m.g.set.SetPolicy(balance.Policy{GatewayFailures: 2, ServerErrors: 3, Interval: 10 * time.Second, RateReplicas: 2, RateRequests: 2, Base: 4 * time.Second, Most: 30 * time.Second, MaxPercent: 50})
	m.g.prober = health.NewProber(func(_ context.Context, address string, _ health.Check) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.answers[address] {
			return errRefused
		}
		return nil
	})
	return m
}

func (m *gateModel) step(rt *rapid.T) {
	m.lately = nil
	switch rapid.IntRange(0, 9).Draw(rt, "step") {
	case 0, 1:
		m.waiters = append(m.waiters, enqueue(m.g, m.g.Ticket(nil, time.Time{})))
	case 2:
		m.withSlot(rt, func(s *Slot) {
			switch rapid.IntRange(0, 3).Draw(rt, "result") {
			case 0: // the client left
			case 1:
				s.Failed()
			default:
				s.Answered(rapid.SampledFrom([]int{200, 404, 500, 502, 503}).Draw(rt, "status"))
			}
			s.Release()
		})
		time.Sleep(3 * time.Second)
		synctest.Wait()
		m.askAgain()
	case 3:
		if len(m.waiters) > 0 {
			i := rapid.IntRange(0, len(m.waiters)-1).Draw(rt, "cancelled")
			m.waiters[i].cancel()
			synctest.Wait()
		}
	case 4:
		m.limit = rapid.IntRange(1, 3).Draw(rt, "limit")
		m.reconfigure(rt)
	case 5:
		m.withSlot(rt, func(s *Slot) { s.Unreachable() })
		time.Sleep(time.Duration(rapid.IntRange(2, 9).Draw(rt, "seconds")) * time.Second)
		synctest.Wait()
		m.askAgain()
	case 6:
		if rapid.IntRange(0, 3).Draw(rt, "close") == 0 {
			m.g.Close()
			m.closed, m.alive, m.listed = true, nil, nil
			clear(m.passed)
			clear(m.heard)
			synctest.Wait()
			return
		}
		m.reconfigure(rt)
	case 7:
		address := fmt.Sprintf("10.0.0.%d:1", rapid.IntRange(0, 3).Draw(rt, "who answers"))
		m.mu.Lock()
		m.answers[address] = !m.answers[address]
		m.mu.Unlock()
		m.listen()
		time.Sleep(3 * time.Second) // by then it has been asked
		synctest.Wait()
	case 8:
		m.copy(rt)
	case 9:
		if len(m.copies) > 0 {
			s := m.copies[0]
			m.copies = m.copies[1:]
			m.held[s.Replica.ID]--
			s.Answered(rapid.SampledFrom([]int{200, 503}).Draw(rt, "status of a copy"))
			s.Release()
			synctest.Wait()
		}
	}
}

// copy takes a slot for a copy, which it gets unless somebody waits.
func (m *gateModel) copy(rt *rapid.T) {
	before := m.g.Status().Queued
	s, err := m.g.TakeSpare(context.Background(), nil)
	if err != nil {
		return
	}
	if before > 0 {
		rt.Fatalf("a copy got a slot while %d wait", before)
	}
	m.copies = append(m.copies, s)
	m.held[s.Replica.ID]++
	m.heard[s.Replica.ID] = true
	if n := m.held[s.Replica.ID]; n > m.limit {
		rt.Fatalf("with a copy replica %s has %d requests, the limit is %d", s.Replica.ID, n, m.limit)
	}
}

// askAgain has those that have room again be sent requests for as long as they
// are not asked, and if they answer then.
func (m *gateModel) askAgain() {
	m.lately = m.alive
	for _, e := range m.listed {
		if e.Unproven && !m.passed[e.Replica] && m.answers[e.Address] {
			m.lately = append(slices.Clip(m.lately), e.Replica)
		}
	}
}

// listen finds anew who may be sent requests. One without room is not asked.
func (m *gateModel) listen() {
	before := m.heard
	m.alive, m.heard = nil, map[string]bool{}
	for _, e := range m.listed {
		if e.Unproven && !m.passed[e.Replica] {
			m.heard[e.Replica] = m.answers[e.Address]
			if m.held[e.Replica] >= m.limit {
				m.heard[e.Replica] = before[e.Replica]
			}
		}
		if e.Passing || m.heard[e.Replica] {
			m.alive = append(m.alive, e.Replica)
		}
	}
}

func (m *gateModel) withSlot(rt *rapid.T, f func(*Slot)) {
	if len(m.slots) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.slots)-1).Draw(rt, "slot")
	s := m.slots[i]
	m.slots = slices.Delete(m.slots, i, i+1)
	m.held[s.Replica.ID]--
	f(s)
	synctest.Wait()
}

func (m *gateModel) reconfigure(rt *rapid.T) {
	var es []routes.Endpoint
	m.listed, m.closed = nil, false
	before := m.passed
	m.passed = map[string]bool{}
	var d routes.Deployment
	versions := rapid.SampledFrom([][]string{{"v1"}, {"v2"}, {"v1", "v2"}, {"v2", "v1"}, {}}).Draw(rt, "versions")
	if len(versions) > 0 {
		d.Version, d.Also = versions[0], versions[1:]
	}
	for i := range 4 {
		e := endpoint(fmt.Sprintf("r%d", i), fmt.Sprintf("10.0.0.%d:1", i))
		e.Version = []string{"v1", "v2"}[i%2]
		e.Passing = rapid.Bool().Draw(rt, "passing")
		e.Unproven = !e.Passing && rapid.Bool().Draw(rt, "unproven")
		if rapid.Bool().Draw(rt, "listed") {
			es = append(es, e)
			if slices.Contains(versions, e.Version) {
				m.listed = append(m.listed, e)
				m.passed[e.Replica] = e.Passing || before[e.Replica]
			}
		}
	}
	for _, e := range m.listed {
		if slices.Contains(m.alive, e.Replica) && e.Unproven && !m.passed[e.Replica] {
			m.lately = append(m.lately, e.Replica)
		}
	}
	m.listen()
	// Nobody here lives to see Consul's patience end.
	d.MaxOngoingRequests, d.MaxQueuedRequests, d.HealthPath, d.HealthPeriod = m.limit, -1, "/healthz", time.Hour
	m.g.Configure(d, es, nil)
	time.Sleep(3 * time.Second) // an answer of theirs may have been awaited already
	synctest.Wait()
}

func (m *gateModel) check(rt *rapid.T) {
	var still []*waiting
	for _, w := range m.waiters {
		switch {
		case !w.ended():
			still = append(still, w)
		case w.slot != nil:
			if len(still) > 0 {
				rt.Fatalf("a request overtook one that waits")
			}
			m.slots = append(m.slots, w.slot)
			m.held[w.slot.Replica.ID]++
			m.heard[w.slot.Replica.ID] = true
			if n := m.held[w.slot.Replica.ID]; n > m.limit {
				rt.Fatalf("replica %s has %d requests, the limit is %d", w.slot.Replica.ID, n, m.limit)
			}
			if !slices.Contains(m.alive, w.slot.Replica.ID) && !slices.Contains(m.lately, w.slot.Replica.ID) {
				rt.Fatalf("sent to %s, of which %v are alive", w.slot.Replica.ID, m.alive)
			}
		}
	}
	m.waiters = still
	m.listen()
	here := len(still) + len(m.slots)
	if m.g.load.present != here {
		rt.Fatalf("the load is %d, there are %d requests", m.g.load.present, here)
	}
	if len(still) == 0 {
		return
	}
	if m.closed {
		rt.Fatalf("%d requests wait for a deployment that is gone", len(still))
	}
	now := time.Now()
	for _, id := range m.alive {
		r := m.g.replicas[id]
		until, _ := r.member.Ejected()
		limit := m.limit
		if !m.g.set.Panicking() && (r.member.Trial() || !until.IsZero()) {
			limit = 1
		}
		if (m.g.set.Panicking() || !until.After(now)) && m.held[id] < limit && !r.member.Unreachable().After(now) {
			rt.Fatalf("%d requests wait although %s has %d of %d", len(still), id, m.held[id], m.limit)
		}
	}
	for _, r := range m.g.Status().Replicas {
		if r.Ongoing != m.held[r.Replica] {
			rt.Fatalf("the gate counts %d at %s, there are %d", r.Ongoing, r.Replica, m.held[r.Replica])
		}
	}
}

func (m *gateModel) end() {
	m.g.Close()
	for _, w := range m.waiters {
		w.cancel()
	}
	synctest.Wait()
	m.g.prober.Stop()
}

func BenchmarkGate(b *testing.B) {
	for _, replicas := range []int{1, 8, 100, 1000} {
		var ids []string
		for i := range replicas {
			ids = append(ids, fmt.Sprintf("r%04d", i))
		}
		for _, limit := range []int{1, 5} {
			b.Run(fmt.Sprintf("free slot among %d replicas, limit %d", replicas, limit), func(b *testing.B) {
				g := openGate(limit, -1, ids...)
				b.ReportAllocs()
				for b.Loop() {
					s, err := g.Acquire(b.Context(), g.Ticket(nil, time.Time{}))
					if err != nil {
						b.Fatal(err)
					}
					s.Release()
				}
			})
		}
		for _, keys := range []int{0, 100} {
			b.Run(fmt.Sprintf("1000 waiting of %d keys for %d replicas", keys, replicas), func(b *testing.B) {
				benchWaiting(b, openGate(5, -1, ids...), keys)
			})
		}
	}
	b.Run("contended, with a queue", func(b *testing.B) {
		g := openGate(1, -1, "a", "b")
		b.ReportAllocs()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s, err := g.Acquire(context.Background(), g.Ticket(nil, time.Time{}))
				if err != nil {
					b.Error(err)
					return
				}
				s.Release()
			}
		})
	})
}

// benchWaiting measures one release, which serves the first of a thousand who
// wait, and the coming of another one; without the goroutines.
func benchWaiting(b *testing.B, g *Gate, keys int) {
	b.Helper()
	var headers []http.Header
	g.classed = keys > 0
	for i := range max(1, keys) {
		headers = append(headers, http.Header{})
		if keys > 0 {
			headers[i].Set(fairnessHeader, fmt.Sprint(i))
		}
	}
	var held []*Slot
	for range 5 * len(g.live) {
		s, err := g.Acquire(b.Context(), g.Ticket(nil, time.Time{}))
		if err != nil {
			b.Fatal(err)
		}
		held = append(held, s)
	}
	enter := func(i int) *waiter {
		t := g.Ticket(nil, time.Time{})
		t.header = headers[i%len(headers)]
		g.mu.Lock()
		defer g.mu.Unlock()
		w, err := g.enter(t, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		return w
	}
	for i := range 1000 {
		enter(i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w := g.queue.First().Value
		held[i%len(held)].Release()
		held[i%len(held)] = (<-w.ready).slot
		g.waiters.Put(w)
		enter(i)
	}
}
