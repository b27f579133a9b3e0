package proxy

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/health"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/routes"
)

// sink is a LoadSink that keeps what it gets.
type sink struct {
	mu      sync.Mutex
	reports []arrival
	refused error // why the leader would refuse one
	open    int
	most    int // open at once
	answer  func(ctx context.Context, r loads.Report) error
}

// arrival is a report and when it came.
type arrival struct {
	loads.Report
	at time.Time
}

func (s *sink) SendLoads(ctx context.Context, r loads.Report) error {
	s.mu.Lock()
	s.reports = append(s.reports, arrival{r, time.Now()})
	if s.refused == nil {
		s.refused = r.Check()
	}
	s.open++
	s.most = max(s.most, s.open)
	answer := s.answer
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	if answer == nil {
		return nil
	}
	return answer(ctx, r)
}

func (s *sink) answerWith(answer func(ctx context.Context, r loads.Report) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// take returns what has come since it was called last.
func (s *sink) take() []arrival {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	reports := s.reports
	s.reports = nil
	return reports
}

// one returns the only report that has come.
func (s *sink) one(t *testing.T) arrival {
	t.Helper()
	reports := s.take()
	if len(reports) != 1 {
		t.Fatalf("%d reports instead of one: %+v", len(reports), reports)
	}
	return reports[0]
}

// times are when reports came, since start.
func times(reports []arrival, start time.Time) []time.Duration {
	var at []time.Duration
	for _, r := range reports {
		at = append(at, r.at.Sub(start))
	}
	return at
}

// bubble is a proxy in a bubble of synctest, with nothing of the network.
type bubble struct {
	*Proxy
	*sink
	discovery *discovery
	log       *bytes.Buffer
	start     time.Time
	stop      func()
}

func inBubble(t *testing.T, v routes.View, f func(t *testing.T, b *bubble)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{sink: &sink{}, discovery: newDiscovery(v), log: &bytes.Buffer{}, start: time.Now()}
		log := hclog.New(&hclog.LoggerOptions{Output: b.log, Level: hclog.Info})
		b.Proxy = New(Config{Discovery: b.discovery, Loads: b.sink, Name: "proxy-1"}, log)
		b.prober = health.NewProber(func(context.Context, string, health.Check) error { return errors.New("refused") })
		b.apply(v)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx)
		}()
		b.stop = func() { cancel(); <-done }
		defer b.stop()
		f(t, b)
		b.take()
		if b.refused != nil {
			t.Error(b.refused)
		}
	})
}

func (b *bubble) gate() *gate.Gate { return b.gates[deploymentKey{"app", 0, "main"}] }

// waiting is a request that has come.
type waiting struct {
	cancel context.CancelFunc
	done   chan struct{}
	slot   *gate.Slot
	err    error
}

// request has one request come.
func (b *bubble) request() *waiting {
	g := b.gate()
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiting{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.slot, w.err = g.Acquire(ctx, g.Ticket(nil, time.Time{}))
	}()
	synctest.Wait()
	return w
}

// ended says whether it has a slot, or an answer without one.
func (w *waiting) ended() bool {
	synctest.Wait()
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// scaling is a view whose deployment scales by its load.
func scaling(interval time.Duration, addresses ...string) routes.View {
	return amend(app{ongoing: 1, queued: -1, addresses: addresses}.view(), func(d *routes.Deployment) { d.MetricsInterval = interval })
}

// beside is a view that has another deployment too, which scales by its load: so
// there are reports, and none comes early because of the first one's.
func beside(interval time.Duration, v routes.View) routes.View {
	v.Table["app"].Deployments["other"] = routes.Deployment{Service: "serve-app-other", Version: "v1", MaxOngoingRequests: 1, MetricsInterval: interval}
	return v
}

// amend changes the deployment of a view.
func amend(v routes.View, change func(d *routes.Deployment)) routes.View {
	d := v.Table["app"].Deployments["main"]
	change(&d)
	v.Table["app"].Deployments["main"] = d
	return v
}

func TestReport(t *testing.T) {
	t.Parallel()
	t.Run("says what there was over its time", func(t *testing.T) {
		inBubble(t, beside(time.Second, app{ongoing: 1, queued: -1, addresses: []string{"a:1"}}.view()), func(t *testing.T, b *bubble) {
			first := b.one(t)
			if diff := cmp.Diff(loads.Report{
				Schema: loads.Schema, Proxy: "proxy-1", Incarnation: b.start.UnixNano(), Sequence: 1,
				Ready: true, Next: time.Second, Deployments: []loads.Deployment{},
			}, first.Report); diff != "" {
				t.Error(diff)
			}
			time.Sleep(500 * time.Millisecond) // none
			held := b.request()
			time.Sleep(250 * time.Millisecond) // one at work
			waits := b.request()
			time.Sleep(250 * time.Millisecond) // one at work, one waits
			second := b.one(t)
			if diff := cmp.Diff(loads.Report{
				Schema: loads.Schema, Proxy: "proxy-1", Incarnation: b.start.UnixNano(), Sequence: 2, After: 1,
				Ready: true, Covers: time.Second, Next: time.Second,
				Deployments: []loads.Deployment{{Application: "app", Deployment: "main", Ongoing: 1, Queued: 1, Mean: 0.75, Max: 2}},
			}, second.Report); diff != "" {
				t.Error(diff)
			}
			time.Sleep(time.Second)
			if d := b.one(t).Deployments; len(d) != 1 || d[0].Mean != 2 || d[0].Min != 2 || d[0].Max != 2 {
				t.Errorf("of a constant load: %+v", d)
			}
			waits.cancel()
			synctest.Wait()
			held.slot.Release()
			time.Sleep(time.Second)
			if d := b.one(t).Deployments; len(d) != 1 || d[0].Mean != 0 || d[0].Max != 2 || d[0].Ongoing+d[0].Queued != 0 {
				t.Errorf("when all have left: %+v", d)
			}
			time.Sleep(time.Second)
			if d := b.one(t).Deployments; len(d) != 0 {
				t.Errorf("names one that had no request: %+v", d)
			}
		})
	})

	t.Run("comes every five seconds while nothing scales", func(t *testing.T) {
		inBubble(t, app{ongoing: 1, queued: -1, addresses: []string{"a:1"}}.view(), func(t *testing.T, b *bubble) {
			b.request()
			b.request().cancel() // which waits, and is no reason for a report at once
			time.Sleep(12 * time.Second)
			if diff := cmp.Diff([]time.Duration{0, 5 * time.Second, 10 * time.Second}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
		})
	})

	t.Run("comes sooner when the table asks for it, and no later than promised when it does not", func(t *testing.T) {
		inBubble(t, app{ongoing: 1, queued: -1}.view(), func(t *testing.T, b *bubble) {
			time.Sleep(1500 * time.Millisecond)
			b.discovery.set(scaling(time.Second))
			time.Sleep(2*time.Second + time.Millisecond)
			if diff := cmp.Diff([]time.Duration{0, 1500 * time.Millisecond, 2500 * time.Millisecond, 3500 * time.Millisecond}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
			b.discovery.set(app{ongoing: 1, queued: -1}.view())
			time.Sleep(6 * time.Second)
			if diff := cmp.Diff([]time.Duration{4500 * time.Millisecond, 9500 * time.Millisecond}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
		})
	})

	t.Run("before there is a table says so, and at once when there is one", func(t *testing.T) {
		inBubble(t, routes.View{}, func(t *testing.T, b *bubble) {
			if b.one(t).Ready {
				t.Error("ready without a table")
			}
			time.Sleep(time.Second)
			b.discovery.set(app{ongoing: 1, queued: -1}.view())
			if r := b.one(t); !r.Ready || r.at.Sub(b.start) != time.Second {
				t.Errorf("got %+v", r)
			}
		})
	})

	t.Run("names requests at replicas that leave, also of a deployment that is gone", func(t *testing.T) {
		inBubble(t, scaling(time.Second, "a:1"), func(t *testing.T, b *bubble) {
			held := b.request()
			b.discovery.set(routes.View{Known: true})
			time.Sleep(time.Second)
			b.take()
			time.Sleep(5 * time.Second)
			if d := b.one(t).Deployments; len(d) != 1 || d[0].Ongoing != 1 || d[0].Mean != 1 {
				t.Errorf("got %+v", d)
			}
			held.slot.Release()
		})
	})
}

func TestReportAtOnce(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	t.Run("when the first request comes to no replica, and as it doubles", func(t *testing.T) {
		inBubble(t, scaling(time.Hour), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			b.take()
			var all []*waiting
			var queued []int
			for range 16 { // one each 9 ms
				all = append(all, b.request())
				time.Sleep(9 * ms)
			}
			time.Sleep(time.Second)
			reports := b.take()
			for _, r := range reports {
				queued = append(queued, r.Deployments[0].Queued)
			}
			// The doublings to 2 and 4 are in the report 50 ms after the first.
			if diff := cmp.Diff([]time.Duration{1000 * ms, 1050 * ms, 1100 * ms}, times(reports, b.start)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]int{1, 6, 12}, queued); diff != "" {
				t.Error(diff)
			}
			for _, w := range all {
				w.cancel()
			}
		})
	})

	t.Run("when the last replica has gone and one more waits", func(t *testing.T) {
		inBubble(t, scaling(time.Hour, "a:1"), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			held := b.request()
			waits := []*waiting{b.request(), b.request(), b.request()}
			time.Sleep(time.Second)
			if reports := b.take(); len(reports) != 3 { // the first, at the first waiter, and at its double
				t.Errorf("at first: %+v", reports)
			}
			waits = append(waits, b.request())
			time.Sleep(time.Second)
			if reports := b.take(); len(reports) != 0 {
				t.Errorf("one more is no reason: %+v", reports)
			}
			b.discovery.set(scaling(time.Hour))
			synctest.Wait()
			waits = append(waits, b.request())
			if r := b.one(t); r.Deployments[0].Queued != 5 {
				t.Errorf("with nobody there: %+v", r)
			}
			waits = append(waits, b.request())
			time.Sleep(time.Second)
			if reports := b.take(); len(reports) != 0 {
				t.Errorf("said again: %+v", reports)
			}
			for _, w := range waits {
				w.cancel()
			}
			held.slot.Release()
		})
	})

	t.Run("again when a replica has come and gone between two reports", func(t *testing.T) {
		inBubble(t, scaling(time.Hour), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			b.take()
			w := b.request()
			b.one(t)
			b.discovery.set(scaling(time.Hour, "a:1"))
			if !w.ended() {
				t.Fatal("not served")
			}
			w.slot.Release()
			b.discovery.set(scaling(time.Hour))
			time.Sleep(time.Second)
			w = b.request()
			if r := b.one(t); r.Deployments[0].Queued != 1 {
				t.Errorf("got %+v", r)
			}
			w.cancel()
		})
	})

	t.Run("less often the more a report says", func(t *testing.T) {
		inBubble(t, scaling(time.Hour), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			b.take()
			w := b.request()
			b.one(t)
			b.reporter.size.Store(10_000)
			second := b.request()
			time.Sleep(time.Second)
			if diff := cmp.Diff([]time.Duration{1500 * ms}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
			w.cancel()
			second.cancel()
		})
	})

	t.Run("and the next one comes an interval later", func(t *testing.T) {
		inBubble(t, scaling(time.Second), func(t *testing.T, b *bubble) {
			time.Sleep(700 * ms)
			w := b.request()
			time.Sleep(1500 * ms)
			if diff := cmp.Diff([]time.Duration{0, 700 * ms, 1700 * ms}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
			w.cancel()
		})
	})

	t.Run("but not for a request that finds a free slot", func(t *testing.T) {
		inBubble(t, scaling(time.Hour, "a:1"), func(t *testing.T, b *bubble) {
			b.take()
			b.request().slot.Release()
			time.Sleep(time.Second)
			if reports := b.take(); len(reports) != 0 {
				t.Errorf("got %+v", reports)
			}
		})
	})
}

var errAway = errors.New("nobody leads")

func TestReportFails(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	away := func(context.Context, loads.Report) error { return errAway }

	t.Run("and what it said is in the next", func(t *testing.T) {
		inBubble(t, scaling(time.Second, "a:1"), func(t *testing.T, b *bubble) {
			b.take()
			b.answerWith(away)
			held := b.request()
			time.Sleep(500 * ms)
			held.slot.Release()
			time.Sleep(3500 * ms)
			if n := len(b.take()); n != 4 {
				t.Fatalf("tried %d times in four intervals", n)
			}
			s := b.Status().Reporting
			if s.Error != errAway.Error() || s.Age != 4 || s.Delivered != 1 {
				t.Errorf("status %+v", s)
			}
			b.answerWith(nil)
			time.Sleep(time.Second)
			r := b.one(t)
			if d := r.Deployments; r.Covers != 5*time.Second || r.Sequence != 6 || r.After != 1 || len(d) != 1 || d[0].Mean != 0.1 || d[0].Max != 1 {
				t.Errorf("got %+v", r)
			}
			time.Sleep(time.Second)
			if r := b.one(t); r.Covers != time.Second || r.After != 6 || len(r.Deployments) != 0 {
				t.Errorf("afterwards %+v", r)
			}
			if s := b.Status().Reporting; s.Error != "" || s.Age != 0 || s.Delivered != 3 {
				t.Errorf("status %+v", s)
			}
			log := b.log.String()
			if strings.Count(log, "do not reach") != 1 || strings.Count(log, "reach the leader again") != 1 {
				t.Errorf("log:\n%s", log)
			}
		})
	})

	t.Run("and is tried again soon while requests wait for a first replica", func(t *testing.T) {
		inBubble(t, scaling(time.Hour), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			b.take()
			b.answerWith(away)
			w := b.request()
			time.Sleep(4 * time.Second)
			want := []time.Duration{1000 * ms, 1100 * ms, 1300 * ms, 1700 * ms, 2500 * ms, 3500 * ms, 4500 * ms}
			if diff := cmp.Diff(want, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
			b.answerWith(nil)
			time.Sleep(10 * time.Second)
			if r := b.one(t); r.Deployments[0].Queued != 1 || r.Sequence != 9 {
				t.Errorf("got %+v", r)
			}
			w.cancel()
		})
	})

	t.Run("and waits for the next tick once nobody waits", func(t *testing.T) {
		inBubble(t, scaling(30*time.Minute), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			b.take()
			b.answerWith(away)
			w := b.request()
			time.Sleep(50 * ms)
			w.cancel()
			time.Sleep(20 * time.Minute)
			if n := len(b.take()); n != 2 {
				t.Errorf("tried %d times", n)
			}
		})
	})

	t.Run("by hanging, and no second is sent meanwhile", func(t *testing.T) {
		for interval, timeout := range map[time.Duration]time.Duration{
			time.Second: 2 * time.Second, 5 * time.Second: 2 * time.Second, time.Minute: 2 * time.Second,
		} {
			t.Run(interval.String(), func(t *testing.T) {
				inBubble(t, scaling(interval), func(t *testing.T, b *bubble) {
					time.Sleep(500 * ms)
					b.take()
					var took atomic.Int64
					b.answerWith(func(ctx context.Context, _ loads.Report) error {
						began := time.Now()
						<-ctx.Done()
						took.Store(int64(time.Since(began)))
						return ctx.Err()
					})
					w := b.request()
					time.Sleep(timeout - time.Millisecond)
					b.request().cancel()
					synctest.Wait()
					if n := len(b.take()); n != 1 || took.Load() != 0 {
						t.Errorf("%d sent, the first ended after %v", n, took.Load())
					}
					time.Sleep(2 * time.Millisecond)
					synctest.Wait()
					if got := time.Duration(took.Load()); got != timeout {
						t.Errorf("broken off after %v, want %v", got, timeout)
					}
					time.Sleep(time.Minute)
					if n := len(b.take()); n < 5 || b.most != 1 {
						t.Errorf("%d sent, %d at once", n, b.most)
					}
					w.cancel()
				})
			})
		}
	})

	hang := func(ctx context.Context, _ loads.Report) error {
		<-ctx.Done()
		return ctx.Err()
	}

	t.Run("and is tried again soon while requests wait that it was asked for", func(t *testing.T) {
		inBubble(t, scaling(time.Hour, "a:1"), func(t *testing.T, b *bubble) {
			time.Sleep(time.Second)
			b.take()
			b.answerWith(away)
			held, waits := b.request(), b.request()
			time.Sleep(time.Second)
			b.answerWith(nil)
			time.Sleep(10 * time.Second)
			want := []time.Duration{1000 * ms, 1100 * ms, 1300 * ms, 1700 * ms, 2500 * ms}
			if diff := cmp.Diff(want, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
			waits.cancel()
			held.slot.Release()
		})
	})

	t.Run("by hanging, and gives way to one that is asked for", func(t *testing.T) {
		inBubble(t, scaling(10*time.Second), func(t *testing.T, b *bubble) {
			b.take()
			b.answerWith(hang)
			time.Sleep(11 * time.Second) // the next has been sent a second ago
			w := b.request()
			synctest.Wait()
			b.answerWith(nil)
			time.Sleep(time.Second)
			reports := b.take()
			if diff := cmp.Diff([]time.Duration{10_000 * ms, 11_300 * ms}, times(reports, b.start)); diff != "" {
				t.Fatal(diff)
			}
			if d := reports[1].Deployments; len(d) != 1 || d[0].Queued != 1 {
				t.Errorf("got %+v", d)
			}
			if s := b.Status().Reporting; s.Error != "" || strings.Contains(b.log.String(), "leader") {
				t.Errorf("taken for a failure: %+v, %s", s, b.log)
			}
			w.cancel()
		})
	})

	t.Run("by taking long, and what was asked for meanwhile comes after it", func(t *testing.T) {
		inBubble(t, scaling(10*time.Second), func(t *testing.T, b *bubble) {
			b.take()
			b.answerWith(func(context.Context, loads.Report) error { time.Sleep(200 * ms); return nil })
			time.Sleep(10*time.Second + 100*ms)
			w := b.request()
			time.Sleep(5 * time.Second)
			if diff := cmp.Diff([]time.Duration{10_000 * ms, 10_200 * ms}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
			w.cancel()
		})
	})

	t.Run("by hanging while nothing is urgent, and has the interval", func(t *testing.T) {
		inBubble(t, scaling(8*time.Second, "a:1"), func(t *testing.T, b *bubble) {
			b.take()
			b.answerWith(hang)
			time.Sleep(20 * time.Second)
			if diff := cmp.Diff([]time.Duration{8000 * ms, 16_050 * ms}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
		})
	})

	t.Run("by hanging past the next, which comes soon after", func(t *testing.T) {
		inBubble(t, scaling(time.Second, "a:1"), func(t *testing.T, b *bubble) {
			time.Sleep(500 * ms)
			b.take()
			b.answerWith(hang)
			time.Sleep(6 * time.Second)
			if diff := cmp.Diff([]time.Duration{1000 * ms, 3050 * ms, 5100 * ms}, times(b.take(), b.start)); diff != "" {
				t.Error(diff)
			}
		})
	})

	t.Run("for longer than a report may cover", func(t *testing.T) {
		inBubble(t, scaling(time.Minute, "a:1"), func(t *testing.T, b *bubble) {
			b.answerWith(away)
			held := b.request()
			time.Sleep(3 * time.Hour)
			b.take()
			b.answerWith(nil)
			time.Sleep(time.Minute)
			r := b.one(t)
			if d := r.Deployments[0]; r.Covers != loads.MaxCovers || d.Mean != 1 || d.Max != 1 {
				t.Errorf("got %+v", r)
			}
			held.slot.Release()
		})
	})
}

func TestReportInterval(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{
		0: reportIdle, -time.Second: reportIdle, 1: reportLeast, time.Second: time.Second, math.MaxInt64: loads.MaxCovers / 2,
	} {
		table := routes.Table{
			"a": {Deployments: map[string]routes.Deployment{"x": {MetricsInterval: asked}, "y": {}}},
			"b": {Deployments: map[string]routes.Deployment{"z": {MetricsInterval: math.MaxInt64}}},
		}
		if asked <= 0 {
			delete(table, "b")
		}
		if got := reportInterval(table); got != want {
			t.Errorf("asked for %v: %v, want %v", asked, got, want)
		}
	}
}

func TestLastReport(t *testing.T) {
	t.Parallel()
	t.Run("says that the proxy leaves", func(t *testing.T) {
		inBubble(t, scaling(time.Second, "a:1"), func(t *testing.T, b *bubble) {
			held := b.request()
			time.Sleep(1500 * time.Millisecond)
			b.take()
			if err := b.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			r := b.one(t)
			if d := r.Deployments; !r.Leaving || !r.Ready || len(d) != 1 || d[0].Mean != 1 {
				t.Errorf("got %+v", r)
			}
			time.Sleep(10 * time.Second)
			if err := b.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			if reports := b.take(); len(reports) != 0 {
				t.Errorf("after the last: %+v", reports)
			}
			held.slot.Release()
		})
	})

	t.Run("comes when the drain is done, and others before", func(t *testing.T) {
		inBubble(t, scaling(time.Second), func(t *testing.T, b *bubble) {
			b.config.DrainNotice = 3500 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), time.Second*4)
			defer cancel()
			if err := b.Drain(ctx); err != nil {
				t.Error(err)
			}
			reports := b.take()
			for i, r := range reports {
				if r.Leaving != (i == 4) {
					t.Errorf("report %d: %+v", i, r)
				}
			}
			if len(reports) != 5 {
				t.Errorf("%d reports", len(reports))
			}
		})
	})

	t.Run("takes a second at most, whatever else is under way", func(t *testing.T) {
		inBubble(t, scaling(time.Second), func(t *testing.T, b *bubble) {
			b.take()
			b.answerWith(func(ctx context.Context, _ loads.Report) error {
				<-ctx.Done()
				return ctx.Err()
			})
			time.Sleep(1500 * time.Millisecond) // one hangs
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			_ = b.Drain(ctx)
			if took := time.Since(began); took != time.Second {
				t.Errorf("took %v", took)
			}
			reports := b.take()
			if len(reports) != 2 || reports[0].Leaving || !reports[1].Leaving {
				t.Errorf("got %+v", reports)
			}
		})
	})
}
