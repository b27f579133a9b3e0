package conformance

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// openLoop calls one at the rate, each in a goroutine of its own and whether or
// not the ones before have returned, as clients do that know nothing of each
// other. It returns when all have.
func openLoop(perSecond int, length time.Duration, one func(i int)) (calls int) {
	var under sync.WaitGroup
	defer under.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for now := range tick.C {
		passed := now.Sub(began)
		for due := int(float64(perSecond) * min(passed, length).Seconds()); calls < due; calls++ {
			i := calls
			under.Go(func() { one(i) })
		}
		if passed >= length {
			return calls
		}
	}
	return calls
}

// latencies are how long requests took, by what came of them.
type latencies struct {
	mu sync.Mutex
	by map[string][]time.Duration
}

func (l *latencies) add(what string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string][]time.Duration{}
	}
	l.by[what] = append(l.by[what], d)
}

// count says how many there were, and quantile the time that the share q of them
// did not exceed.
func (l *latencies) count(what string) int { return len(l.by[what]) }

func (l *latencies) quantile(what string, q float64) time.Duration {
	all := slices.Sorted(slices.Values(l.by[what]))
	if len(all) == 0 {
		return 0
	}
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// heap is what the process uses after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestOverload offers ten times what the replicas can do. Those who are let in
// wait little longer than ever, and the others are told so at once. How long is
// judged in the long form alone, which has the machine for itself.
func TestOverload(t *testing.T) {
	const (
		ongoing, queued = 2, 2
		work            = 50 * time.Millisecond               // on average: from half to one and a half of it
		capacity        = 2 * ongoing * int(time.Second/work) // a second
	)
	var now, most atomic.Int64
	serve := func(w http.ResponseWriter, _ *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		time.Sleep(work/2 + rand.N(work)) // stands for the work
		_, _ = io.WriteString(w, "done")
	}
	a := app(ongoing, replica(t, serve), replica(t, serve))
	a.queued = queued
	r := start(t, viewOf(a))
	var all latencies
	ask := func(phase string) func(int) {
		return func(int) {
			began := time.Now()
			res, err := r.client.Get(r.url + "/app")
			what := "error"
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
				what = fmt.Sprint(res.StatusCode)
				if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
					t.Error("a rejection has no Retry-After")
				}
			}
			all.add(phase+" "+what, time.Since(began))
		}
	}
	length := min(span(t, 2*time.Second), 30*time.Second)
	openLoop(capacity/2, length, ask("normal"))
	before := heap()
	offered := openLoop(10*capacity, length, ask("overload"))
	after := heap()

	normal, admitted, rejected := all.quantile("normal 200", 0.99), all.quantile("overload 200", 0.99), all.quantile("overload 503", 0.99)
	t.Logf("capacity %d/s: normal p99 %v (%d); overload: %d offered, %d admitted with p50 %v p99 %v (%.2fx), %d rejected with p50 %v p99 %v; memory %+d kB",
		capacity, normal, all.count("normal 200"), offered, all.count("overload 200"), all.quantile("overload 200", 0.5), admitted,
		float64(admitted)/float64(normal), all.count("overload 503"), all.quantile("overload 503", 0.5), rejected, (int64(after)-int64(before))/1024)
	if n := all.count("overload 200") + all.count("overload 503"); n != offered {
		t.Errorf("%d of %d requests were neither served nor rejected: %v", offered-n, offered, all.outcomes())
	}
	if all.count("overload 503") < offered/2 || all.count("overload 200") == 0 {
		t.Errorf("of ten times the capacity: %v", all.outcomes())
	}
	if long() && (admitted > 2*normal || rejected > 50*time.Millisecond) {
		t.Errorf("p99 of admitted %v, rejected %v, normal %v", admitted, rejected, normal)
	}
	if after > before+128<<20 {
		t.Errorf("memory went from %d to %d bytes", before, after)
	}
	if most.Load() > 2*ongoing {
		t.Errorf("%d requests at once at the replicas", most.Load())
	}
	r.waitIdle(t)
}

// outcomes counts by what came of the requests.
func (l *latencies) outcomes() map[string]int {
	counts := map[string]int{}
	for what, all := range l.by {
		counts[what] = len(all)
	}
	return counts
}
