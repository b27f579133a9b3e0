package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// rig is a Set with its members, a clock and dice.
type rig struct {
	Set
	all  []*Member
	now  time.Time
	dice *rand.Rand
}

func newRig(n, limit int) *rig {
	r := &rig{now: time.Unix(1000, 0), dice: rand.New(rand.NewPCG(1, 2))}
	r.SetLimit(limit)
	for i := range n {
		r.all = append(r.all, NewMember(fmt.Sprintf("r%04d", i)))
	}
	r.Replace(r.all, r.now)
	return r
}

func (r *rig) pick(want Want) *Member {
	if i := r.Pick(r.now, r.dice.Uint64(), want); i >= 0 {
		return r.members[i]
	}
	return nil
}

func (r *rig) take(want Want) *Member {
	m := r.pick(want)
	if m != nil {
		r.Take(m)
	}
	return m
}

func TestFindsTheIdle(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 8, 9, 100, 1000} {
		for limit := 1; limit <= levelCount; limit++ {
			r := newRig(n, limit)
			for round := range limit {
				for range n {
					if m := r.take(Want{}); m == nil || m.InFlight() != round+1 {
						t.Fatalf("%d replicas, limit %d: took %v while another had %d", n, limit, m, round)
					}
				}
			}
			if m := r.pick(Want{}); m != nil {
				t.Errorf("%d replicas, limit %d: %v has a slot beyond the limit", n, limit, m)
			}
		}
	}
}

func TestNeverMissesASlot(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 9, 100} {
		r := newRig(n, 16)
		for i := range 16 * n {
			if r.take(Want{}) == nil {
				t.Fatalf("%d replicas: no slot for request %d", n, i)
			}
		}
		last := r.all[n-1]
		r.Free(last)
		if m := r.take(Want{}); m != last {
			t.Errorf("%d replicas: took %v", n, m)
		}
		if r.take(Want{}) != nil {
			t.Errorf("%d replicas: more slots than there are", n)
		}
	}
}

// share returns how many of n picks, none of which lasts, each member got.
func (r *rig) share(n int, want Want) map[string]int {
	counts := map[string]int{}
	for range n {
		counts[r.pick(want).ID()]++
	}
	return counts
}

func TestTiesAreRandom(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 8, 9, 20} {
		for _, limit := range []int{1, 5} {
			for id, got := range newRig(n, limit).share(1000*n, Want{}) {
				if got < 800 || got > 1200 {
					t.Errorf("%d replicas, limit %d: %s got %d of 1000", n, limit, id, got)
				}
			}
		}
	}
}

func TestSlotsElsewhere(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 20} {
		r := newRig(n, 5)
		for _, m := range r.all[1:] {
			r.Elsewhere(m, 4)
		}
		if got := r.share(4000, Want{})["r0000"]; n == 2 && got != 4000 || n == 20 && (got < 300 || got > 500) {
			t.Errorf("%d replicas: the one without other requests got %d of 4000", n, got) // of 20: each time it is drawn
		}
		for _, m := range r.all[1:] {
			r.Elsewhere(m, 5)
			if r.Usable(m) != true {
				t.Errorf("%d replicas: one that others fill cannot be used once they leave", n)
			}
		}
		r.Elsewhere(r.all[0], 5)
		if i := r.Pick(r.now, 1, Want{}); i >= 0 {
			t.Errorf("%d replicas: %d is picked, and others have all slots", n, i)
		}
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 40} {
		r := newRig(n, 5)
		near := NewMember("near")
		r.all = append(r.all, near)
		r.Replace(r.all, r.now)
		r.Near(near, true)
		r.now = r.now.Add(slowStart) // which it had
		for want := range 2 {
			if m := r.take(Want{}); m != near {
				t.Errorf("%d replicas: took %s with %d requests near", n, m.ID(), want)
			}
		}
		if m := r.take(Want{}); m == near {
			t.Errorf("%d replicas: the near one has two more than the others", n)
		}
		for near.InFlight() < 5 {
			r.Take(near)
		}
		if m := r.take(Want{}); m == near || m == nil {
			t.Errorf("%d replicas: took %v with the near one full", n, m)
		}
	}
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 40} {
		r := newRig(n, 5)
		for _, m := range r.all {
			r.Take(m) // so that there is something to be better than
		}
		r.now = r.now.Add(slowStart)
		young := NewMember("new")
		r.Replace(append(r.all, young), r.now)
		early := r.share(4000, Want{})["new"]
		r.now = r.now.Add(slowStart * 9 / 10)
		late := r.share(4000, Want{})["new"]
		if early > 4000/n/4 || late < early || late < 2*4000/(n+1)/2 {
			t.Errorf("%d replicas: %d of 4000 at first, %d when nearly warm", n, early, late)
		}
		if !young.Warming(r.now) || young.Warming(r.now.Add(slowStart)) {
			t.Errorf("warming at the wrong time")
		}
		for r.take(Want{}) != nil {
		}
		if young.InFlight() != 5 {
			t.Error("somebody had to wait for a new replica to be warm")
		}
	}
}

// TestAllBegin has replicas join one after the other within a moment, as they do
// when a deployment comes from nothing.
func TestAllBegin(t *testing.T) {
	t.Parallel()
	r := newRig(8, 5)
	r.Replace(nil, r.now)
	for i := range r.all {
		r.Replace(r.all[:i+1], r.now)
		r.now = r.now.Add(50 * time.Millisecond)
	}
	for id, n := range r.share(8000, Want{}) {
		if n < 800 || n > 1200 {
			t.Errorf("%s got %d of 8000", id, n)
		}
	}
}

func TestAvoid(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 20} {
		r := newRig(n, 1)
		bad := r.all[0]
		for _, key := range []uint64{0, Key(Session, "x")} {
			want := Want{Key: key, Avoid: bad}
			var taken []*Member
			for range n - 1 {
				m := r.take(want)
				if m == bad {
					t.Error("did not avoid it")
				}
				taken = append(taken, m)
			}
			if r.pick(want) != bad {
				t.Error("nobody, although it is free")
			}
			for _, m := range taken {
				r.Free(m)
			}
		}
	}
}

func TestAffinity(t *testing.T) {
	t.Parallel()
	const keys = 5000
	r := newRig(20, 5)
	home := make([]*Member, keys)
	load := map[*Member]int{}
	for k := range keys {
		home[k] = r.pick(Want{Key: Key(Session, fmt.Sprint(k))})
		load[home[k]]++
	}
	for m, n := range load {
		if n < 180 || n > 330 {
			t.Errorf("%s is home to %d of %d keys", m.ID(), n, keys)
		}
	}
	gone := r.all[7]
	r.Replace(slices.DeleteFunc(slices.Clone(r.all), func(m *Member) bool { return m == gone }), r.now)
	for k := range keys {
		if now := r.pick(Want{Key: Key(Session, fmt.Sprint(k))}); now != home[k] && home[k] != gone {
			t.Fatalf("key %d moved from %s to %s", k, home[k].ID(), now.ID())
		}
	}
	r.Replace(r.all, r.now)
	for k := range 50 {
		want := Want{Key: Key(Session, fmt.Sprint(k))}
		for range 5 {
			if m := r.take(want); m != home[k] {
				t.Fatal("did not keep to a replica with a free slot, or did not come back to it")
			}
		}
		next := r.pick(want)
		if next == nil || next == home[k] || r.pick(want) != next {
			t.Fatal("the next in its order is not always the same")
		}
		for range 5 {
			r.Free(home[k])
		}
	}
	if Key(Session, "x") == Key(Model, "x") || Key(Session, "") == 0 {
		t.Error("keys clash")
	}
}

// TestLaws holds a Set, after every step at random, to what it promises.
func TestLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 6).Draw(t, "limit")
		r := newRig(rapid.IntRange(0, 14).Draw(t, "replicas"), limit)
		r.SetPolicy(Policy{GatewayFailures: 2, ServerErrors: 3, Interval: 3 * time.Second, RateReplicas: 3, RateRequests: 2, Base: time.Second, Most: 9 * time.Second, MaxPercent: 50})
		var held []*Member
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			switch rapid.IntRange(0, 10).Draw(t, "step") {
			case 0, 1, 2:
				want := Want{Key: rapid.SampledFrom([]uint64{0, 0, 7}).Draw(t, "key")}
				if len(r.all) > 0 && rapid.Bool().Draw(t, "avoids") {
					want.Avoid = rapid.SampledFrom(r.all).Draw(t, "avoided")
				}
				if m := r.take(want); m != nil {
					held = append(held, m)
					if used := m.InFlight() + m.Elsewhere(); used > limit || !m.joined {
						t.Fatalf("%s has %d requests, the limit is %d; joined %v", m.ID(), used, limit, m.joined)
					}
					if m == want.Avoid && slices.ContainsFunc(r.members, func(o *Member) bool { return o != m && free(r, o) }) {
						t.Fatal("took the replica to avoid although there is another")
					}
				} else if i := slices.IndexFunc(r.members, func(m *Member) bool { return free(r, m) }); i >= 0 {
					t.Fatalf("no slot although %s has one", r.members[i].ID())
				}
			case 3, 4:
				if len(held) > 0 {
					i := rapid.IntRange(0, len(held)-1).Draw(t, "freed")
					r.Observe(held[i], Result(rapid.IntRange(0, 3).Draw(t, "result")), r.now)
					r.Free(held[i])
					held = slices.Delete(held, i, i+1)
				}
			case 5:
				r.now = r.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			case 6:
				var some []*Member
				for _, m := range r.all {
					if rapid.IntRange(0, 3).Draw(t, "listed") > 0 {
						some = append(some, m)
					}
				}
				r.Replace(some, r.now)
			case 7:
				limit = rapid.IntRange(1, 6).Draw(t, "new limit")
				r.SetLimit(limit)
			case 8:
				if len(r.all) > 0 {
					r.Elsewhere(rapid.SampledFrom(r.all).Draw(t, "shared"), rapid.IntRange(0, 6).Draw(t, "elsewhere"))
				}
			case 9:
				if len(r.all) > 0 {
					r.Near(rapid.SampledFrom(r.all).Draw(t, "near or not"), rapid.Bool().Draw(t, "near"))
				}
			case 10:
				if len(held) > 0 {
					m := rapid.SampledFrom(held).Draw(t, "missed")
					if rapid.Bool().Draw(t, "reached") {
						r.Reach(m, r.now)
					} else {
						r.Miss(m, r.now)
					}
				}
			}
			checkLaws(t, r)
		}
		for _, m := range held {
			r.Free(m)
		}
		for _, m := range r.all {
			if m.InFlight() != 0 {
				t.Fatalf("%s has %d requests left", m.ID(), m.InFlight())
			}
		}
	})
}

// free is the plainest statement of who may get a request.
func free(r *rig, m *Member) bool {
	if m.unreachable && m.unreachableUntil.After(r.now) {
		return false
	}
	used := m.inFlight + m.elsewhere
	if !r.panicking {
		if m.ejected && m.ejectedUntil.After(r.now) {
			return false
		}
		if m.ejected || (m.trial && m.inFlight > 0) {
			return false
		}
	}
	return used < r.limit
}

func checkLaws(t *rapid.T, r *rig) {
	r.Refresh(r.now)
	left, ejected := 0, 0
	for i, m := range r.members {
		if m.isLeft() {
			left++
		}
		if m.ejected {
			ejected++
		}
		if (m.level > 0) != free(r, m) || m.index != i {
			t.Fatalf("%s: level %d, free %v, index %d of %d", m.ID(), m.level, free(r, m), m.index, i)
		}
		if m.level > 0 && r.Set.all.lists[m.level-1][m.at[0]] != m {
			t.Fatalf("%s is not where it says", m.ID())
		}
		if m.level > 0 && m.near && r.near.lists[m.level-1][m.at[1]] != m {
			t.Fatalf("%s is not where it says among those near", m.ID())
		}
	}
	if want := ejected > 0 && 2*left < len(r.members); r.panicking != want {
		t.Fatalf("%d of %d left, %d ejected, panicking %v", left, len(r.members), ejected, r.panicking)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{8, 100, 1000} {
		for _, limit := range []int{1, 5} {
			for _, key := range []uint64{0, 7} {
				b.Run(fmt.Sprintf("%d replicas, limit %d, key %v", n, limit, key > 0), func(b *testing.B) {
					r := newRig(n, limit)
					for range n * limit / 2 {
						r.take(Want{})
					}
					random := uint64(1)
					b.ReportAllocs()
					for b.Loop() {
						random = mix(random)
						m := r.members[r.Pick(r.now, random, Want{Key: key})]
						r.Take(m)
						r.Free(m)
					}
				})
			}
		}
	}
}
