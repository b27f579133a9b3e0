//go:build e2e

package nomaddev_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// figure is what a scenario measured, once.
type figure struct {
	scenario          string
	requests, streams int
	lost              int
	excused           string        // those that the scenario allows for, and why
	rollout, rollback time.Duration // 0: there was none
	p99, slowest      time.Duration // of short requests
	note              string
}

// of takes over what a load saw.
func (f *figure) of(l *traffic) {
	f.requests, f.streams, f.lost = l.sent, l.streams, len(l.lost)
	slices.Sort(l.took)
	if n := len(l.took); n > 0 {
		f.p99, f.slowest = l.took[n*99/100], l.took[n-1]
	}
}

// figures are all of a run.
type figures struct {
	mu   sync.Mutex
	list []*figure
}

func (f *figures) add(scenario string) *figure {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := &figure{scenario: scenario}
	f.list = append(f.list, one)
	return one
}

// print logs the table that BENCHMARKS.md has.
func (f *figures) print(t *testing.T) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| scenario\t| requests\t| of these streams\t| lost\t| rollout\t| rollback\t| p99\t| slowest\t|\t")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, one := range f.list {
		if one.requests == 0 {
			continue // it was skipped, or failed before
		}
		fmt.Fprintf(w, "| %s\t| %d\t| %d\t| %d%s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", one.scenario, one.requests, one.streams,
			one.lost, one.excused, seconds(one.rollout), seconds(one.rollback), ms(one.p99), ms(one.slowest), one.note)
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	t.Log("\n" + b.String())
}

func seconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
