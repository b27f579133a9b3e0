package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

func TestRecord(t *testing.T) {
	seen := func(requests float64, running, target int) autoscale.Explanation {
		return autoscale.Explanation{Load: &autoscale.LoadSummary{Present: requests}, Running: running, Target: target}
	}
	// looks answers each look in turn, and ends the record with the last.
	looks := func(cancel func(), list ...any) func(context.Context) (autoscale.Explanation, error) {
		return func(context.Context) (autoscale.Explanation, error) {
			if len(list) == 0 {
				cancel()
				return autoscale.Explanation{}, context.Canceled
			}
			next := list[0]
			list = list[1:]
			if err, ok := next.(error); ok {
				return autoscale.Explanation{}, err
			}
			return next.(autoscale.Explanation), nil
		}
	}
	away := errors.New("connection refused")
	for _, c := range []struct {
		name  string
		looks []any
		want  string
		err   error
	}{
		{
			"a line for each change",
			[]any{seen(0, 1, 1), seen(0, 1, 1), seen(3.5, 1, 1), seen(3.5, 1, 2), seen(3.5, 2, 2)},
			`{"at":0.000,"requests":0,"running":1,"target":1}
{"at":2.000,"requests":3.5,"running":1,"target":1}
{"at":3.000,"requests":3.5,"running":1,"target":2}
{"at":4.000,"requests":3.5,"running":2,"target":2}
`, nil,
		},
		{
			"it begins when the load is known, and a gap is no end",
			[]any{autoscale.Explanation{}, seen(1, 1, 1), away, away, seen(2, 1, 1)},
			`{"at":0.000,"requests":1,"running":1,"target":1}
{"at":3.000,"requests":2,"running":1,"target":1}
`, nil,
		},
		{
			"no answer for a while, before the load is known",
			[]any{autoscale.Explanation{}, away, seen(1, 1, 1)},
			`{"at":0.000,"requests":1,"running":1,"target":1}
`, nil,
		},
		{"nobody answers at all", []any{away}, "", away},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var out strings.Builder
				r := &recordCommand{interval: time.Second, svg: filepath.Join(t.TempDir(), "run.svg"), began: time.Now()}
				if err := r.follow(ctx, &out, looks(cancel, c.looks...)); !errors.Is(err, c.err) {
					t.Errorf("got %v", err)
				}
				if out.String() != c.want {
					t.Errorf("got\n%swant\n%s", out.String(), c.want)
				}
				if err := r.draw("search/ranker"); err != nil {
					t.Fatal(err)
				}
				if picture, err := os.ReadFile(r.svg); err != nil || !strings.Contains(string(picture), "search/ranker") {
					t.Errorf("the drawing: %v\n%s", err, picture)
				}
				if c.want != "" {
					if _, err := autoscale.ReadTrace(strings.NewReader(out.String())); err != nil {
						t.Errorf("replay does not read it: %v", err)
					}
				}
			})
		})
	}
	t.Run("a server that stays away ends it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			first := true
			began := time.Now()
			r := &recordCommand{interval: time.Second}
			err := r.follow(t.Context(), &strings.Builder{}, func(context.Context) (autoscale.Explanation, error) {
				if first {
					first = false
					return seen(1, 1, 1), nil
				}
				return autoscale.Explanation{}, away
			})
			if !errors.Is(err, away) || time.Since(began) < recordPatience {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
		})
	})
}
