package controller_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

func TestUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gauge{value: 2}
		s := rollsOut(t, held(time.Hour), well, func(f *fake) { f.metrics = g })
		time.Sleep(time.Minute) // fake
		next := deploy("v3")
		next.Deploy.Rollouts = raftstate.RolloutsOfNodes
		next.Deploy.Applications[0].Spec.Rollout = held(time.Hour)
		if got := s.current().Unreadable(t.Context(), next); len(got) > 0 {
			t.Errorf("of one that can be read: %q", got)
		}
		g.set(0, errors.New("connection refused"), false)
		got := s.current().Unreadable(t.Context(), next)
		if len(got) != 1 || !strings.Contains(got[0], `query "depth"`) || !strings.Contains(got[0], "connection refused") {
			t.Errorf("of one that cannot: %q", got)
		}
		next.Deploy.Applications[0].Spec.Rollout = nil
		if got = s.current().Unreadable(t.Context(), next); len(got) > 0 {
			t.Errorf("without a query: %q", got)
		}
	})
}
