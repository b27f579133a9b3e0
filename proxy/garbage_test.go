package proxy

import "testing"

func TestCollectorPercent(t *testing.T) {
	for lives, want := range map[uint64]int{
		0:         mostPercent,
		1 << 20:   mostPercent,
		8 << 20:   400,
		16 << 20:  200,
		32 << 20:  leastPercent,
		1 << 30:   leastPercent,
		1<<64 - 1: leastPercent,
	} {
		if got := collectorPercent(lives); got != want {
			t.Errorf("beside %d bytes: %d %%, want %d %%", lives, got, want)
		}
	}
}
