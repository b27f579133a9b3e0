package balance

import (
	"testing"
	"time"
)

func (r *rig) observe(m *Member, result Result, times int) (ejected []*Member) {
	for range times {
		ejected = append(ejected, r.Observe(m, result, r.now)...)
	}
	return ejected
}

func TestMiss(t *testing.T) {
	t.Parallel()
	r := newRig(1, 5)
	m := r.all[0]
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second} {
		if got := r.Miss(m, r.now); got != want {
			t.Errorf("left alone for %v, want %v", got, want)
		}
		if got := r.Miss(m, r.now.Add(want/2)); got != want-want/2 {
			t.Errorf("a dial at the same time counts: %v", got)
		}
		r.now = r.now.Add(want - 1)
		if r.pick(Want{}) != nil {
			t.Error("picked too early")
		}
		if r.now = r.now.Add(1); r.pick(Want{}) != m {
			t.Error("not picked again")
		}
	}
	r.Miss(m, r.now)
	r.Reach(m, r.now)
	if r.pick(Want{}) != m || r.Miss(m, r.now) != time.Second {
		t.Error("not trusted after it was reached")
	}
}

func TestFailuresInARow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		policy  func(*Policy)
		results []Result
		want    Reason
	}{
		{"five gateway errors", nil, []Result{GatewayError, Broken, GatewayError, Broken, Broken}, ReasonGateway},
		{"four", nil, []Result{Broken, Broken, Broken, Broken}, ""},
		{"with one good in between", nil, []Result{Broken, Broken, Broken, Served, Broken, Broken}, ""},
		{"with a 500 in between", nil, []Result{Broken, Broken, Broken, ServerError, Broken, Broken}, ""},
		{"500s do not count", nil, []Result{ServerError, ServerError, ServerError, ServerError, ServerError, ServerError}, ""},
		{"unless they do", func(p *Policy) { p.ServerErrors = 3 }, []Result{ServerError, GatewayError, ServerError}, ReasonServer},
		{"nothing counts", func(p *Policy) { p.GatewayFailures = 0 }, []Result{Broken, Broken, Broken, Broken, Broken, Broken}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(3, 5)
			p := DefaultPolicy()
			if tt.policy != nil {
				tt.policy(&p)
			}
			r.SetPolicy(p)
			for _, result := range tt.results {
				r.observe(r.all[0], result, 1)
			}
			if _, reason := r.all[0].Ejected(); reason != tt.want {
				t.Errorf("got %q, want %q", reason, tt.want)
			}
		})
	}
}

func TestEjectionAndTrial(t *testing.T) {
	t.Parallel()
	r := newRig(4, 5)
	m := r.all[0]
	for _, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
		if got := r.observe(m, Broken, 5); len(got) != 1 || got[0] != m {
			t.Fatalf("ejected %v", got)
		}
		if until, _ := m.Ejected(); until.Sub(r.now) != want || !r.Due().Equal(until) {
			t.Errorf("ejected until %v, due %v, want in %v", until, r.Due(), want)
		}
		if r.share(200, Want{})[m.ID()] > 0 {
			t.Error("picked while ejected")
		}
		r.now = r.now.Add(want)
		r.Refresh(r.now)
		if !m.Trial() {
			t.Fatal("no trial")
		}
		r.Take(m)
		if r.share(200, Want{})[m.ID()] > 0 {
			t.Error("more than one request in a trial")
		}
		if got := r.observe(m, Broken, 1); len(got) != 1 {
			t.Error("a failed trial does not eject")
		}
		until, reason := m.Ejected()
		if reason != ReasonTrial {
			t.Errorf("reason %q", reason)
		}
		r.Free(m)
		r.now = until
		r.Refresh(r.now)
		r.Take(m)
		r.observe(m, Served, 1)
		r.Free(m)
		if m.Trial() || !m.Warming(r.now) {
			t.Error("a good trial does not end it with a slow start")
		}
		m.ejections-- // the failed trial's, so that the first ones double by one each time
	}
}

func TestForgiven(t *testing.T) {
	t.Parallel()
	r := newRig(4, 5)
	m := r.all[0]
	r.observe(m, Broken, 5)
	for range 6 {
		r.now = r.now.Add(DefaultPolicy().Interval)
		r.observe(m, Served, 1)
	}
	r.observe(m, Broken, 5)
	if until, _ := m.Ejected(); until.Sub(r.now) != DefaultPolicy().Base {
		t.Errorf("after a good minute ejected for %v", until.Sub(r.now))
	}
}

func TestHalfAreLeft(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 20; n++ {
		r := newRig(n, 5)
		for _, m := range r.all {
			r.observe(m, Broken, 20)
		}
		ejected := 0
		for _, m := range r.all {
			if m.ejected {
				ejected++
			}
		}
		want := max(1, n*30/100)
		if n == 1 {
			want = 0
		}
		if ejected != want || r.Panicking() {
			t.Errorf("%d of %d ejected, want %d; panicking %v", ejected, n, want, r.Panicking())
		}
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	r := newRig(10, 5)
	for _, m := range r.all[:3] {
		r.observe(m, Broken, 5)
	}
	r.Replace(r.all[:5], r.now) // three of five are ejected now
	if !r.Panicking() || len(r.share(500, Want{})) != 5 {
		t.Error("ejection holds although fewer than half are left")
	}
	r.Replace(r.all, r.now)
	if r.Panicking() || len(r.share(500, Want{})) != 7 {
		t.Error("panics with enough of them")
	}
	r.Miss(r.all[8], r.now)
	r.Miss(r.all[9], r.now)
	r.Miss(r.all[7], r.now)
	if !r.Panicking() || len(r.share(500, Want{})) != 7 {
		t.Error("those that cannot be reached count as if they could, or are used")
	}
}

func TestSuccessRate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		n      int
		answer func(replica, i int) Result
		want   int
	}{
		{"one that fails half the time", 10, func(m, i int) Result { return Result(b2i(m == 0 && i%2 == 0)) }, 1},
		{"all alike fail half the time", 10, func(m, i int) Result { return Result(b2i((i+m)%2 == 0)) }, 0},
		{"a little chance", 10, func(m, i int) Result { return Result(b2i(m == 0 && i%30 == 0)) }, 0},
		{"too few to compare", 4, func(m, i int) Result { return Result(b2i(m == 0 && i%2 == 0)) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(tt.n, 5)
			r.observe(r.all[0], Served, 1)
			for i := range 100 {
				for j, m := range r.all {
					r.observe(m, tt.answer(j, i), 1)
				}
			}
			r.now = r.now.Add(DefaultPolicy().Interval)
			got := r.observe(r.all[1], Served, 1)
			if len(got) != tt.want || (tt.want == 1 && got[0].reason != ReasonRate) {
				t.Errorf("ejected %v", got)
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestBudget(t *testing.T) {
	t.Parallel()
	var b Budget
	now := time.Unix(1000, 0)
	spend := func() (n int) {
		for b.Retry(now) {
			n++
		}
		return n
	}
	if got := spend(); got != 50 {
		t.Errorf("%d without a request", got)
	}
	for range 1000 {
		b.Request(now)
	}
	if got := spend(); got != 200 {
		t.Errorf("%d more for a thousand requests", got)
	}
	now = now.Add(9 * time.Second)
	if got := spend(); got != 0 {
		t.Errorf("%d more within the window", got)
	}
	now = now.Add(-time.Hour)
	if got := spend(); got != 0 {
		t.Errorf("%d more with the clock back", got)
	}
	now = now.Add(time.Hour + time.Second)
	if got := spend(); got != 50 {
		t.Errorf("%d after the window", got)
	}
}

// TestATrialComesWhileOthersUseTheReplica has it be back from an ejection.
func TestATrialComesWhileOthersUseTheReplica(t *testing.T) {
	var s Set
	s.SetPolicy(Policy{GatewayFailures: 1, Base: time.Second, Most: time.Second, MaxPercent: 50})
	s.SetLimit(4)
	a, b := NewMember("a"), NewMember("b")
	now := time.Unix(1, 0)
	s.Replace([]*Member{a, b}, now)
	s.Observe(a, Broken, now)
	now = now.Add(2 * time.Second)
	s.Elsewhere(a, 2)
	s.Elsewhere(b, 4)
	if i := s.Pick(now, 0, Want{}); i != 0 {
		t.Errorf("picked %d, want the one on trial", i)
	}
	s.Take(a)
	if i := s.Pick(now, 0, Want{}); i != -1 {
		t.Errorf("picked %d beside its trial", i)
	}
}
