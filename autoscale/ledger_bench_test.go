package autoscale

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

const (
	benchKeys    = 10_000
	benchProxies = 3
	benchWindow  = 30 * time.Second
)

// bench is a leader's ledger with a report a second from each proxy, each
// naming every deployment.
type bench struct {
	ledger  *Ledger
	keys    []loads.Key
	reports [benchProxies]loads.Report
	now     time.Time
}

func newBench(b *testing.B) *bench {
	b.Helper()
	x := &bench{ledger: NewLedger(ledgerStart()), now: ledgerStart()}
	windows := map[loads.Key]time.Duration{}
	for i := range benchKeys {
		key := loads.Key{Application: fmt.Sprint("app-", i/10), Deployment: fmt.Sprint("deployment-", i%10)}
		x.keys = append(x.keys, key)
		windows[key] = benchWindow
	}
	for p := range x.reports {
		x.reports[p] = loads.Report{
			Schema: loads.Schema, Proxy: fmt.Sprint("web-", p), Incarnation: 1, Ready: true,
			Covers: time.Second, Next: time.Second,
		}
		for _, key := range x.keys {
			x.reports[p].Deployments = append(x.reports[p].Deployments, loads.Deployment{
				Application: key.Application, Deployment: key.Deployment,
			})
		}
	}
	x.ledger.Follow(windows)
	for range 60 {
		x.now = x.now.Add(time.Second)
		for p := range x.reports {
			x.report(b, p)
		}
	}
	return x
}

// report lets a proxy report, with another load than before.
func (x *bench) report(b *testing.B, proxy int) {
	b.Helper()
	r := &x.reports[proxy]
	r.Sequence++
	for i := range r.Deployments {
		load := float64((i*7+int(r.Sequence)*3+proxy)%20) + 0.5
		d := &r.Deployments[i]
		d.Mean, d.Max, d.Min, d.Ongoing = load, load+1, load-0.5, int(load)
	}
	x.now = x.now.Add(time.Millisecond)
	if err := x.ledger.Take(x.now, *r); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTick is what a tick of the leader asks of its ledger, when one proxy
// in three has reported since the last.
func BenchmarkTick(b *testing.B) {
	for _, aggregation := range []string{"mean", "max"} {
		b.Run(aggregation, func(b *testing.B) {
			x := newBench(b)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				x.now = x.now.Add(333 * time.Millisecond)
				x.report(b, i%benchProxies)
				b.StartTimer()
				x.tick(b, aggregation)
			}
		})
	}
	b.Run("nothing new", func(b *testing.B) {
		x := newBench(b)
		b.ReportAllocs()
		for b.Loop() {
			x.tick(b, "mean")
		}
	})
}

func (x *bench) tick(b *testing.B, aggregation string) {
	b.Helper()
	sum := 0.0
	for _, key := range x.keys {
		sum += x.ledger.Series(x.now, key).Over(x.now, benchWindow, aggregation)
		if x.ledger.Hold(x.now, benchWindow) != "" {
			b.Fatal("a proxy is silent")
		}
	}
	if sum == 0 {
		b.Fatal("there is no load")
	}
}

// BenchmarkTake is one report that names 10,000 deployments.
func BenchmarkTake(b *testing.B) {
	x := newBench(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.now = x.now.Add(333 * time.Millisecond)
		x.report(b, i%benchProxies)
	}
}

// BenchmarkLedgerSize is how much a ledger remembers of each deployment.
func BenchmarkLedgerSize(b *testing.B) {
	var bytes uint64
	for b.Loop() {
		before := heap()
		x := newBench(b)
		x.tick(b, "mean")
		x.reports = [benchProxies]loads.Report{} // they are the sender's
		bytes = heap() - before
		runtime.KeepAlive(x)
	}
	b.ReportMetric(float64(bytes)/benchKeys, "bytes/deployment")
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// BenchmarkOver is one window of 30 s, one of 1,000 steps, and one of a whole
// hour of seconds.
func BenchmarkOver(b *testing.B) {
	for _, steps := range []int{30, 1000, 3600} {
		var all []Step
		for i := range steps {
			all = append(all, Level(ledgerStart().Add(time.Duration(i)*time.Second), float64(i%7)))
		}
		s := NewSeries(all...)
		window := time.Duration(steps) * time.Second
		now := ledgerStart().Add(window)
		for _, aggregation := range []string{"mean", "max"} {
			b.Run(fmt.Sprintf("%d-%s", steps, aggregation), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s.Over(now, window, aggregation)
				}
			})
		}
	}
}
