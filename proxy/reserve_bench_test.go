//go:build unix

package proxy

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// processorTime is what this process has used of the processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkStrictLimit compares the ways by which a request comes to a replica
// whose slots are handed out in one place: none at all, by this proxy alone,
// from its own book, reserved at another proxy and sent directly, and forwarded
// through the other proxy. It reports the processors' time for each request, in
// which the client's and the replica's share is the same for all; "none" is that
// share.
func BenchmarkStrictLimit(b *testing.B) {
	address := benchReplica(b)
	a := app{ongoing: 1000, queued: -1, addresses: []string{address}}
	k, own := newKeeper(b, "p0", "127.0.0.1:0")
	other, _ := newKeeper(b, "p1", "")
	through := a.view()
	route := through.Table["app"]
	route.RoutePrefix = "/"
	through.Table = routes.Table{"app": route}
	last := start(b, through)
	ways := []struct{ name, addr string }{
		{"none", address},
		{"alone", start(b, a.view()).addr},
		{"own book", start(b, keptView(a, own), withSlots(k)).addr},
		{"reserved", start(b, keptView(a, own), withSlots(other)).addr},
		{"forwarded", start(b, app{ongoing: 1000, queued: -1, addresses: []string{last.addr}}.view()).addr},
	}
	for _, clients := range []int{1, 16} {
		for _, way := range ways {
			b.Run(fmt.Sprintf("%d clients a processor/%s", clients, way.name), func(b *testing.B) {
				b.SetParallelism(clients)
				before := processorTime(b)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					exchangeLoop(b, pb, way.addr, "GET /app/x HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
				})
				b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
