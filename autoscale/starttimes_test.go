package autoscale_test

import (
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

func TestStartTimes(t *testing.T) {
	seconds := func(list ...int) (s autoscale.StartTimes) {
		for _, n := range list {
			s.Add(time.Duration(n) * time.Second)
		}
		return s
	}
	long := make([]int, 0, 20)
	for range 10 {
		long = append(long, 100)
	}
	for range 10 {
		long = append(long, 2)
	}
	for _, c := range []struct {
		name string
		took []int
		want time.Duration
	}{
		{"none", nil, 0},
		{"one", []int{4}, 4 * time.Second},
		{"two", []int{4, 7}, 5500 * time.Millisecond},
		{"one that is far out", []int{4, 5, 900}, 5 * time.Second},
		{"what cannot be", []int{-3, 0, 4000, 6}, 6 * time.Second},
		{"the last 16 of them", long, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := seconds(c.took...)
			if got := s.Typical(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
