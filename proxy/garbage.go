package proxy

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The bounds of PaceCollector.
const (
	garbageWanted = 32 << 20 // bytes of garbage that are left to lie
	leastPercent  = 100      // of what lives: Go's own
	mostPercent   = 800      // with Go's least heap of 4 MiB, garbageWanted
	garbageLook   = time.Second
)

// PaceCollector has the garbage collector of this process run less often until
// ctx ends: not for each doubling of what lives, which is little in a proxy with
// few connections, but for each 32 MiB. As more lives it goes back to Go's own
// pace, so that a proxy with many connections holds no more memory than else. It
// is for the main program to call, unless somebody has set GOGC.
func PaceCollector(ctx context.Context) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	ticker := time.NewTicker(garbageLook)
	defer ticker.Stop()
	for set := 0; ; {
		metrics.Read(samples)
		lives := uint64(0)
		for _, s := range samples {
			if s.Value.Kind() == metrics.KindUint64 {
				lives += s.Value.Uint64()
			}
		}
		// Setting it stops the world for a moment.
		if p := collectorPercent(lives); p < set-set/8 || p > set+set/8 {
			debug.SetGCPercent(p)
			set = p
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// collectorPercent is how much garbage may lie beside so many bytes that live,
// in per cent of these.
func collectorPercent(lives uint64) int {
	return int(min(max(garbageWanted*100/max(lives, 1), leastPercent), mostPercent))
}
