package balance

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is a deployment under a load of its own making: requests come at random
// and take a random time, both exponential, the mean time being 1.
type world struct {
	dice      *rand.Rand
	set       Set
	members   []*Member
	limit     int
	now       float64
	events    events
	waiting   []job // for any replica, in order of arrival
	bound     [][]job
	waits     []float64
	stranded  int // requests that waited while a slot was free
	longer    float64
	atHome    int
	patience  float64 // for which a request waits for the replica that it prefers
	preferred bool    // requests prefer a replica; elsewhere they take longer
}

type job struct {
	came float64
	home int
	done *bool
	over bool // its patience
}

type event struct {
	at      float64
	replica int // that finishes one; -1: a request comes; -2: the patience of one ends
	job     job
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newWorld(replicas, limit int) *world {
	w := &world{dice: rand.New(rand.NewPCG(1, uint64(replicas*100+limit))), limit: limit, bound: make([][]job, replicas), longer: 1}
	for i := range replicas {
		w.members = append(w.members, NewMember(fmt.Sprint(i)))
	}
	w.set.SetLimit(limit)
	w.set.Replace(w.members, w.clock())
	return w
}

func (w *world) clock() time.Time { return time.Unix(1000, 0).Add(time.Duration(w.now * 1e9)) }

func (w *world) begin(j job, replica int) {
	w.waits = append(w.waits, w.now-j.came)
	took := w.dice.ExpFloat64()
	if w.preferred {
		if replica == j.home {
			w.atHome++
		} else {
			took *= w.longer
		}
	}
	w.set.Take(w.members[replica])
	heap.Push(&w.events, event{at: w.now + took, replica: replica})
}

func (w *world) free() int {
	n := 0
	for _, m := range w.members {
		n += max(0, w.limit-m.InFlight())
	}
	return n
}

// two returns the less loaded of two random replicas.
func (w *world) two(load func(i int) int) int {
	i := w.dice.IntN(len(w.members))
	j := w.dice.IntN(len(w.members) - 1)
	if j >= i {
		j++
	}
	if load(j) < load(i) {
		return j
	}
	return i
}

// run has n requests come so that the replicas are busy for that share of the
// time. place finds a replica for a request that is first in line, or -1; arrive
// has a request that comes wait.
func (w *world) run(n int, utilisation float64, arrive func(j job), left func(replica int)) {
	rate := utilisation * float64(len(w.members)*w.limit)
	heap.Push(&w.events, event{replica: -1})
	for len(w.events) > 0 {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		switch e.replica {
		case -1:
			arrive(job{came: w.now, home: w.dice.IntN(len(w.members)), done: new(bool)})
			if n--; n > 0 {
				heap.Push(&w.events, event{at: w.now + w.dice.ExpFloat64()/rate, replica: -1})
			}
		case -2:
			if !*e.job.done {
				e.job.over = true
				arrive(e.job)
			}
		default:
			w.set.Free(w.members[e.replica])
			left(e.replica)
		}
	}
}

// late serves those who wait for any replica, as pick finds them one.
func (w *world) late(n int, utilisation float64, pick func() int) {
	serve := func(int) {
		for len(w.waiting) > 0 {
			i := pick()
			if i < 0 {
				if w.free() > 0 {
					w.stranded++
				}
				return
			}
			w.begin(w.waiting[0], i)
			w.waiting = w.waiting[1:]
		}
	}
	w.run(n, utilisation, func(j job) { w.waiting = append(w.waiting, j); serve(0) }, serve)
}

// early binds a request to a replica as it comes; it waits there.
func (w *world) early(n int, utilisation float64, choose func(load func(i int) int) int) {
	load := func(i int) int { return w.members[i].InFlight() + len(w.bound[i]) }
	serve := func(i int) {
		for len(w.bound[i]) > 0 && w.members[i].InFlight() < w.limit {
			w.begin(w.bound[i][0], i)
			w.bound[i] = w.bound[i][1:]
		}
		if len(w.bound[i]) > 0 && w.free() > 0 {
			w.stranded++
		}
	}
	w.run(n, utilisation, func(j job) {
		i := choose(load)
		w.bound[i] = append(w.bound[i], j)
		serve(i)
	}, serve)
}

func (w *world) p99() float64 {
	slices.Sort(w.waits)
	return w.waits[len(w.waits)*99/100]
}

func (w *world) mean() float64 {
	sum := 0.0
	for _, x := range w.waits {
		sum += x
	}
	return sum / float64(len(w.waits))
}

// TestSimulation compares policies at a utilisation of 0.8. Waits are in mean
// service times; run it with -v to see them.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const n, utilisation = 20_000, 0.8
	t.Logf("%-8s %-5s  %-32s %8s %8s %9s", "replicas", "limit", "policy", "mean", "p99", "stranded")
	for _, replicas := range []int{10, 100} {
		for _, limit := range []int{1, 4, 16} {
			results := map[string]*world{}
			for _, policy := range []string{"Set", "two choices, late, no search", "two choices, bound on arrival", "random, bound on arrival"} {
				w := newWorld(replicas, limit)
				switch policy {
				case "Set":
					w.late(n, utilisation, func() int { return w.set.Pick(w.clock(), w.dice.Uint64(), Want{}) })
				case "two choices, late, no search":
					w.late(n, utilisation, func() int {
						i := w.two(func(i int) int { return w.members[i].InFlight() })
						if w.members[i].InFlight() >= w.limit {
							return -1
						}
						return i
					})
				case "two choices, bound on arrival":
					w.early(n, utilisation, w.two)
				default:
					w.early(n, utilisation, func(func(int) int) int { return w.dice.IntN(replicas) })
				}
				results[policy] = w
				t.Logf("%8d %5d  %-32s %8.3f %8.3f %9d", replicas, limit, policy, w.mean(), w.p99(), w.stranded)
			}
			ours := results["Set"]
			for policy, w := range results {
				if ours.stranded > 0 || len(w.waits) != n || ours.p99() > w.p99() {
					t.Errorf("%d replicas, limit %d, %s: p99 %.3f and ours %.3f; %d stranded; %d served", replicas, limit, policy, w.p99(), ours.p99(), ours.stranded, len(w.waits))
				}
			}
		}
	}
}

// TestPatience compares for how long a request should wait for the replica that
// it prefers, where it takes half as long again elsewhere.
func TestPatience(t *testing.T) {
	t.Parallel()
	const n, replicas, limit = 20_000, 20, 4
	t.Logf("%-11s  %-8s %8s %8s %8s %9s", "utilisation", "patience", "mean", "p99", "at home", "in all")
	for _, utilisation := range []float64{0.5, 0.65} {
		for _, patience := range []float64{0, 0.1, 0.5, 2} {
			w := newWorld(replicas, limit)
			w.preferred, w.longer, w.patience = true, 1.5, patience
			w.affine(n, utilisation)
			total := w.mean() + float64(w.atHome)/n + w.longer*(1-float64(w.atHome)/n)
			t.Logf("%11.2f  %8.1f %8.3f %8.3f %7.1f%% %9.3f", utilisation, patience, w.mean(), w.p99(), 100*float64(w.atHome)/n, total)
			if len(w.waits) != n {
				t.Errorf("%d served", len(w.waits))
			}
		}
	}
}

// affine has each request wait for its own replica for the patience, and for
// any after it.
func (w *world) affine(n int, utilisation float64) {
	serve := func() {
		for len(w.waiting) > 0 {
			i := w.set.Pick(w.clock(), w.dice.Uint64(), Want{})
			if i < 0 {
				return
			}
			w.begin(w.waiting[0], i)
			w.waiting = w.waiting[1:]
		}
	}
	w.run(n, utilisation, func(j job) {
		switch {
		case w.members[j.home].InFlight() < w.limit:
			*j.done = true
			w.begin(j, j.home)
		case j.over || w.patience == 0:
			*j.done = true
			w.waiting = append(w.waiting, j)
			serve()
		default:
			w.bound[j.home] = append(w.bound[j.home], j)
			heap.Push(&w.events, event{at: j.came + w.patience, replica: -2, job: j})
		}
	}, func(i int) {
		for len(w.bound[i]) > 0 && w.members[i].InFlight() < w.limit {
			j := w.bound[i][0]
			w.bound[i] = w.bound[i][1:]
			if !*j.done {
				*j.done = true
				w.begin(j, i)
			}
		}
		serve()
	})
}
