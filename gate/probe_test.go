package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/health"
	"github.com/serve-nomad/serve-nomad/routes"
)

// asked is what a fake of the network was asked, and what it answers.
type asked struct {
	mu     sync.Mutex
	at     map[string][]time.Time // address -> when it was asked
	answer map[string]func(ctx context.Context) error
	open   int
	most   int
}

var errRefused = errors.New("refused")

func serves(context.Context) error { return nil }

func hangs(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

func (a *asked) ask(ctx context.Context, address string, _ health.Check) error {
	a.mu.Lock()
	a.at[address] = append(a.at[address], time.Now())
	a.open++
	a.most = max(a.most, a.open)
	answer := a.answer[address]
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.open--
		a.mu.Unlock()
	}()
	if answer == nil {
		return errRefused
	}
	return answer(ctx)
}

func (a *asked) set(address string, answer func(ctx context.Context) error) {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer[address] = answer
}

// times says when an address was asked, and forgets it.
func (a *asked) times(address string, start time.Time) []time.Duration {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var at []time.Duration
	for _, when := range a.at[address] {
		at = append(at, when.Sub(start))
	}
	delete(a.at, address)
	return at
}

// unproven is an endpoint that only its own health check keeps from passing.
func unproven(id string) routes.Endpoint {
	e := endpoint(id, id+":1")
	e.Passing, e.Unproven = false, true
	return e
}

// listing is what a gate is told.
type listing struct {
	deployment routes.Deployment
	endpoints  []routes.Endpoint
}

// coming is a deployment that has a health path, and those endpoints.
func coming(es ...routes.Endpoint) listing {
	d := deployment(1, -1)
	d.HealthPath = "/healthz"
	return listing{d, es}
}

func amend(l listing, change func(d *routes.Deployment)) listing {
	change(&l.deployment)
	return l
}

func passes(id string) routes.Endpoint { return endpoint(id, id+":1") }

// bubble is a gate in a bubble of synctest, whose replicas answer as a test says.
type bubble struct {
	*Gate
	config Config
	log    *bytes.Buffer
	start  time.Time
}

func probing(t *testing.T, l listing, f func(t *testing.T, b *bubble, a *asked)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &asked{at: map[string][]time.Time{}, answer: map[string]func(context.Context) error{}}
		b := &bubble{log: &bytes.Buffer{}, start: time.Now()}
		b.config = Config{Log: hclog.New(&hclog.LoggerOptions{Output: b.log, Level: hclog.Info}), Prober: health.NewProber(a.ask)}
		b.Gate = New("app", 0, "main", b.config)
		b.Configure(l.deployment, l.endpoints, nil)
		defer b.prober.Stop()
		f(t, b, a)
	})
}

// request has one request come.
func (b *bubble) request() *waiting { return enqueue(b.Gate, b.Ticket(nil, time.Time{})) }

func (b *bubble) show(es ...routes.Endpoint) {
	b.ConsulRead(true)
	l := coming(es...)
	b.Configure(l.deployment, l.endpoints, nil)
	synctest.Wait()
}

// probed says whether a replica is live by its own word.
func (b *bubble) probed(id string) bool {
	synctest.Wait()
	for _, r := range b.Status().Replicas {
		if r.Replica == id {
			return r.Probed
		}
	}
	return false
}

func TestProbe(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	scenario := func(name string, l listing, f func(t *testing.T, b *bubble, a *asked)) {
		t.Run(name, func(t *testing.T) { probing(t, l, f) })
	}

	scenario("a new replica is asked at once, then ever more seldom", coming(), func(t *testing.T, b *bubble, a *asked) {
		w := b.request()
		time.Sleep(time.Second)
		start := time.Now()
		b.show(unproven("a"))
		time.Sleep(200 * ms)
		got := a.times("a:1", start)
		// 20 ms, and 1.3 times as much each time.
		want := []time.Duration{0, 20 * ms, 46 * ms, 79800 * time.Microsecond, 123740 * time.Microsecond, 180862 * time.Microsecond}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		time.Sleep(28 * time.Second)
		got = a.times("a:1", start)
		for i := 20; i < len(got); i++ {
			if gap := got[i] - got[i-1]; gap != probeMost {
				t.Errorf("question %d after %v", i, gap)
			}
		}
		time.Sleep(10 * time.Second)
		got = a.times("a:1", start)
		if n := len(got); n < 10 || got[n-1]-got[n-2] != probeSlow {
			t.Errorf("at last %v", got)
		}
		w.cancel()
	})

	scenario("a replica that answers is served to those who wait", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		w, second := b.request(), b.request()
		time.Sleep(100 * ms)
		a.set("a:1", serves)
		time.Sleep(100 * ms)
		if !w.ended() || w.slot == nil || w.slot.Address != "a:1" {
			t.Fatalf("not served: %v", w.err)
		}
		if second.ended() {
			t.Error("over the limit")
		}
		if s := b.Status().Replicas[0]; s.Passing || !s.Probed || s.Ongoing != 1 {
			t.Errorf("status %+v", s)
		}
		w.slot.Release()
		if !second.ended() {
			t.Error("the second was not served")
		}
		b.show(passes("a"))
		if s := b.Status().Replicas[0]; !s.Passing || s.Probed || s.Ongoing != 1 {
			t.Errorf("status when Consul agrees: %+v", s)
		}
		a.times("a:1", b.start)
		time.Sleep(time.Minute)
		if got := a.times("a:1", b.start); len(got) != 0 {
			t.Errorf("asked at %v although Consul agrees", got)
		}
		second.slot.Release()
	})

	scenario("nobody is asked while nobody waits", coming(unproven("a"), passes("b")), func(t *testing.T, b *bubble, a *asked) {
		time.Sleep(time.Minute)
		held := b.request()
		time.Sleep(time.Minute)
		if got := a.times("a:1", b.start); len(got) != 0 {
			t.Errorf("asked at %v", got)
		}
		start := time.Now()
		w := b.request()
		if got := a.times("a:1", start); len(got) != 1 {
			t.Errorf("once somebody waits asked at %v", got)
		}
		w.cancel()
		synctest.Wait()
		a.times("a:1", start)
		time.Sleep(time.Minute)
		if got := a.times("a:1", start); len(got) != 0 {
			t.Errorf("asked at %v", got)
		}
		held.slot.Release()
	})

	scenario("others are asked at once when all that are live are full", coming(unproven("a"), unproven("b")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		held := b.request()
		time.Sleep(10*time.Second + 500*ms)
		if got := a.times("b:1", b.start); len(got) > 1 {
			t.Errorf("while nobody waits asked at %v", got)
		}
		a.set("b:1", serves)
		w := b.request()
		if !w.ended() || w.slot.Address != "b:1" {
			t.Error("not asked")
		}
		w.slot.Release()
		held.slot.Release()
	})

	scenario("no health path, none is asked", amend(coming(unproven("a")), func(d *routes.Deployment) { d.HealthPath = "" }), func(t *testing.T, b *bubble, a *asked) {
		w := b.request()
		time.Sleep(time.Minute)
		if got := a.times("a:1", b.start); len(got) != 0 {
			t.Errorf("asked at %v", got)
		}
		w.cancel()
	})

	scenario("one that fails for another reason, or is of another version, is not asked", coming(), func(t *testing.T, b *bubble, a *asked) {
		w := b.request()
		node, old := unproven("a"), unproven("b")
		node.Unproven, old.Version = false, "v0"
		b.show(node, old)
		time.Sleep(time.Minute)
		if got := append(a.times("a:1", b.start), a.times("b:1", b.start)...); len(got) != 0 {
			t.Errorf("asked at %v", got)
		}
		w.cancel()
	})

	scenario("one that has passed and fails is never kept alive", coming(passes("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		b.show(unproven("a"))
		w := b.request()
		time.Sleep(time.Minute)
		if got := a.times("a:1", b.start); len(got) != 0 || w.ended() {
			t.Errorf("asked at %v", got)
		}
		// Gone and back, it is as new.
		b.show()
		b.show(unproven("a"))
		if !w.ended() || w.slot == nil {
			t.Error("not served")
		}
		w.slot.Release()
	})

	scenario("one that is live by its word, passes, and fails in Consul is not kept alive", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		b.request().slot.Release()
		b.show(passes("a"))
		b.show(unproven("a"))
		w := b.request()
		time.Sleep(time.Minute)
		if w.ended() {
			t.Error("sent to it")
		}
		w.cancel()
	})

	scenario("it is asked each second, and is out when it refuses", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		start := time.Now()
		a.set("a:1", serves)
		b.request().slot.Release()
		time.Sleep(3500 * ms)
		if diff := cmp.Diff([]time.Duration{0, 1000 * ms, 2000 * ms, 3000 * ms}, a.times("a:1", start)); diff != "" {
			t.Error(diff)
		}
		a.set("a:1", nil)
		if !b.probed("a") {
			t.Error("out before it was asked")
		}
		time.Sleep(500 * ms)
		if b.probed("a") {
			t.Error("still in")
		}
		a.times("a:1", start)
		time.Sleep(time.Minute)
		if got := a.times("a:1", start); len(got) != 0 {
			t.Errorf("nobody waits, and it is asked at %v", got)
		}
		a.set("a:1", serves)
		if w := b.request(); !w.ended() || w.slot == nil {
			t.Error("not in again")
		} else {
			w.slot.Release()
		}
	})

	two := func(d *routes.Deployment) { d.MaxOngoingRequests = 2 }
	scenario("while at work it may be late, but not three times", amend(coming(unproven("a")), two), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		held := b.request()
		a.set("a:1", hangs)
		time.Sleep(4500 * ms) // two answers are a second late
		if !b.probed("a") {
			t.Error("out after two")
		}
		a.set("a:1", serves)
		time.Sleep(3 * time.Second)
		a.set("a:1", hangs)
		time.Sleep(4500 * ms)
		if !b.probed("a") {
			t.Error("counts from before an answer in time")
		}
		time.Sleep(2 * time.Second)
		if b.probed("a") {
			t.Error("still in after three")
		}
		held.slot.Release()
	})

	scenario("one that has all that it may have is not asked", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		held := b.request()
		if !held.ended() {
			t.Fatal("not served")
		}
		a.set("a:1", hangs) // it does one thing at a time
		a.times("a:1", b.start)
		next := b.request()
		time.Sleep(10 * time.Second)
		if got := a.times("a:1", b.start); len(got) != 0 || !b.probed("a") {
			t.Errorf("asked at %v, live %v", got, b.probed("a"))
		}
		held.slot.Release()
		if !next.ended() || next.slot == nil {
			t.Fatal("the next one is not served at once")
		}
		a.set("a:1", serves)
		start := time.Now()
		next.slot.Release()
		time.Sleep(probeMost)
		if got := a.times("a:1", start); len(got) != 1 {
			t.Errorf("afterwards asked at %v", got)
		}
	})

	scenario("without Consul's agreement it is out after a while, for good", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		b.request().slot.Release()
		time.Sleep(agreement - time.Millisecond)
		if !b.probed("a") {
			t.Error("out too early")
		}
		time.Sleep(time.Second)
		if b.probed("a") {
			t.Error("still in")
		}
		if !strings.Contains(b.log.String(), "Consul does not say that it passes") {
			t.Errorf("log: %s", b.log)
		}
		w := b.request()
		b.show(unproven("a"))
		time.Sleep(time.Minute)
		if w.ended() {
			t.Error("in again")
		}
		b.show(passes("a"))
		if !w.ended() || w.slot == nil {
			t.Error("not in when Consul agrees")
		}
		w.slot.Release()
	})

	long := func(d *routes.Deployment) { d.HealthPeriod = time.Minute }
	scenario("a check that runs seldom has time to agree", amend(coming(unproven("a")), long), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		b.request().slot.Release()
		time.Sleep(agreement + 2*time.Minute - time.Millisecond)
		if !b.probed("a") {
			t.Error("out too early")
		}
		time.Sleep(time.Second)
		if b.probed("a") {
			t.Error("still in")
		}
	})

	scenario("while Consul is not read nobody can agree", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		b.request().slot.Release()
		b.ConsulRead(false)
		time.Sleep(time.Hour)
		if !b.probed("a") {
			t.Error("out although Consul is away")
		}
		b.show(unproven("a"))
		time.Sleep(agreement - time.Second)
		if !b.probed("a") {
			t.Error("out as soon as Consul is back")
		}
		time.Sleep(2 * time.Second)
		if b.probed("a") {
			t.Error("still in")
		}
	})

	scenario("a request that cannot reach it ends it, and it is asked again", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		w := b.request()
		a.set("a:1", nil)
		if d := w.slot.Unreachable(); d != time.Second || b.probed("a") {
			t.Errorf("avoided for %v, live %v", d, b.probed("a"))
		}
		again := b.request()
		time.Sleep(100 * ms)
		if again.ended() {
			t.Error("sent to it")
		}
		a.set("a:1", serves)
		time.Sleep(250 * ms)
		if !again.ended() || again.slot == nil { // not only when the suspicion ends
			t.Error("not sent although it answers")
		}
		again.slot.Release()
	})

	scenario("one that comes again at another address is asked there", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", serves)
		b.request().slot.Release()
		moved := unproven("a")
		moved.Address = "b:1"
		b.show(moved)
		w := b.request()
		if w.ended() {
			t.Error("sent to where it was not asked")
		}
		a.set("b:1", serves)
		time.Sleep(time.Second)
		if !w.ended() || w.slot.Address != "b:1" {
			t.Error("not sent")
		}
		w.slot.Release()
	})

	scenario("an answer that comes when the replica has gone means nothing", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		release := make(chan struct{})
		a.set("a:1", func(context.Context) error { <-release; return nil })
		w := b.request()
		b.show()
		a.set("a:1", nil)
		b.show(unproven("a"))
		close(release)
		time.Sleep(time.Minute)
		if w.ended() || b.probed("a") {
			t.Error("taken for the new one's")
		}
		w.cancel()
	})

	scenario("an answer that comes when the deployment has gone means nothing", coming(unproven("a")), func(t *testing.T, b *bubble, a *asked) {
		release := make(chan struct{})
		a.set("a:1", func(context.Context) error { <-release; return nil })
		w := b.request()
		if !b.Close() {
			t.Error("there is something left")
		}
		if !w.ended() || !errors.Is(w.err, ErrGone) {
			t.Errorf("got %v", w.err)
		}
		close(release)
		time.Sleep(time.Minute)
		if b.probed("a") {
			t.Error("taken in")
		}
	})

	scenario("what is asked when the prober stops ends", coming(unproven("a"), unproven("b")), func(t *testing.T, b *bubble, a *asked) {
		a.set("a:1", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		a.set("b:1", serves)
		b.request().slot.Release()
		w := b.request()
		w.slot.Release()
		b.prober.Stop()
		if !b.probed("b") {
			t.Error("the end of the prober was taken for the replica's")
		}
		b.show(unproven("c"))
		w = b.request() // is not asked for any more
		w.cancel()
	})
}

func TestProbeBounds(t *testing.T) {
	t.Parallel()
	var many []routes.Endpoint
	for i := range 40 {
		many = append(many, unproven(fmt.Sprintf("r%02d", i)))
	}
	t.Run("of one gate", func(t *testing.T) {
		probing(t, coming(many...), func(t *testing.T, b *bubble, a *asked) {
			for _, e := range many {
				a.set(e.Address, hangs)
			}
			last := many[len(many)-1]
			w := b.request()
			time.Sleep(time.Second + probeFirst/2) // 40 questions of a second, 32 at once
			for _, e := range many {
				if n := len(a.times(e.Address, b.start)); n != 1 {
					t.Errorf("%s was asked %d times", e.Replica, n)
				}
			}
			if a.most != probesAtOnce {
				t.Errorf("%d at once", a.most)
			}
			a.set(last.Address, serves)
			time.Sleep(6 * time.Second)
			if !w.ended() || w.slot.Replica.ID != last.Replica {
				t.Error("not served")
			}
			w.slot.Release()
		})
	})
	t.Run("of one gate, each second", func(t *testing.T) {
		var crowd []routes.Endpoint
		for i := range 1000 {
			crowd = append(crowd, unproven(fmt.Sprintf("r%03d", i)))
		}
		probing(t, coming(crowd...), func(t *testing.T, b *bubble, a *asked) {
			w := b.request()
			time.Sleep(10 * time.Second)
			for _, e := range crowd {
				a.times(e.Address, b.start)
			}
			time.Sleep(10*time.Second + time.Millisecond)
			n := 0
			for _, e := range crowd {
				n += len(a.times(e.Address, b.start))
			}
			if n < 9_000 || n > 11_000 {
				t.Errorf("%d questions in ten seconds", n)
			}
			w.cancel()
		})
	})
	t.Run("of the prober", func(t *testing.T) {
		probing(t, coming(many...), func(t *testing.T, b *bubble, a *asked) {
			listed, gates := slices.Clone(many), []*Gate{b.Gate}
			for i := range 40 { // as many deployments, with eight replicas each
				l := coming()
				for j := range 8 {
					l.endpoints = append(l.endpoints, unproven(fmt.Sprintf("app%d-%d", i, j)))
				}
				g := New(fmt.Sprintf("app%d", i), 0, "main", b.config)
				g.Configure(l.deployment, l.endpoints, nil)
				listed, gates = append(listed, l.endpoints...), append(gates, g)
			}
			for _, e := range listed {
				a.set(e.Address, hangs)
			}
			var all []*waiting
			for _, g := range gates {
				all = append(all, enqueue(g, g.Ticket(nil, time.Time{})))
			}
			time.Sleep(30 * time.Second) // gates come in turn: the one of 40 replicas takes longest
			synctest.Wait()
			for _, e := range listed {
				if len(a.times(e.Address, b.start)) == 0 {
					t.Errorf("%s was never asked", e.Replica)
				}
			}
			if a.most != health.AtOnce {
				t.Errorf("%d at once", a.most)
			}
			for _, w := range all {
				w.cancel()
			}
		})
	})
}

func TestProbesFollowTheTable(t *testing.T) {
	t.Parallel()
	var p probes
	p.follow(routes.Deployment{HealthPath: "x", HealthPeriod: math.MaxInt64})
	if p.check.Path != "" || p.patience != agreement+2*time.Hour {
		t.Errorf("got %+v", p)
	}
	p.follow(routes.Deployment{HealthPath: "/x", HealthPeriod: -time.Hour})
	if p.check.Path != "/x" || p.patience != agreement {
		t.Errorf("got %+v", p)
	}
}
