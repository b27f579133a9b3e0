package nomadjobs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

func TestNodeOperations(t *testing.T) {
	open, closed := "/v1/node/n1/eligibility "+`{"Eligibility":"eligible","NodeID":"n1"}`, "/v1/node/n1/eligibility "+`{"Eligibility":"ineligible","NodeID":"n1"}`
	drain := func(deadline string) string {
		return `/v1/node/n1/drain {"DrainSpec":{"Deadline":` + deadline + `,"IgnoreSystemJobs":false},"MarkEligible":false,` +
			`"Meta":{"drained_by":"serve-nomad","message":"serve-nomad: idle"},"NodeID":"n1"}`
	}
	f, c := startFake(t)
	f.addNode("n1")
	for _, step := range []struct {
		name string
		act  func() error
		want string // what is written; "": nothing
	}{
		{"close", func() error { return c.SetEligible(t.Context(), "n1", false) }, closed},
		{"close again", func() error { return c.SetEligible(t.Context(), "n1", false) }, ""},
		{"open", func() error { return c.SetEligible(t.Context(), "n1", true) }, open},
		{"open again", func() error { return c.SetEligible(t.Context(), "n1", true) }, ""},
		{"drain without a deadline", func() error { return c.Drain(t.Context(), "n1", 0, "idle") }, drain("0")},
		{"drain with one", func() error { return c.Drain(t.Context(), "n1", time.Minute, "idle") }, drain("60000000000")},
		{"drain again", func() error { return c.Drain(t.Context(), "n1", time.Minute, "idle") }, ""},
		{"drain later", func() error { return c.Drain(t.Context(), "n1", time.Hour, "idle") }, ""},
		{"drain without end", func() error { return c.Drain(t.Context(), "n1", 0, "idle") }, ""},
		{"drain at once", func() error { return c.Drain(t.Context(), "n1", -1, "idle") }, drain("-1")},
		{"close while it drains", func() error { return c.SetEligible(t.Context(), "n1", false) }, ""},
		{"open while it drains", func() error { return c.SetEligible(t.Context(), "n1", true) }, `/v1/node/n1/drain {"DrainSpec":null,"MarkEligible":true,"Meta":null,"NodeID":"n1"}`},
		{"purge", func() error { return c.Purge(t.Context(), "n1") }, "/v1/node/n1/purge null"},
	} {
		f.set(func() { f.ground.written = nil })
		if err := step.act(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := strings.Join(f.ground.written, "\n"); got != step.want {
			t.Errorf("%s: wrote\n%s\nwant\n%s", step.name, got, step.want)
		}
	}
	if err := c.Purge(t.Context(), "n1"); err != nil {
		t.Errorf("purge a node that is gone: %v", err)
	}
	for name, err := range map[string]error{
		"open": c.SetEligible(t.Context(), "n1", true), "drain": c.Drain(t.Context(), "n1", time.Minute, "idle"),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s a node that is gone: %v", name, err)
		}
	}
	if c.Purge(t.Context(), "") == nil || c.Drain(t.Context(), "", 0, "") == nil {
		t.Error("took an empty id")
	}
}

func TestWritePool(t *testing.T) {
	f, c := startFake(t)
	w := reconcile.WritePool{Name: "gpu", Description: "of worker group gpu", Meta: map[string]string{"serve_cluster_id": "c1"}}
	write := func(want bool) {
		t.Helper()
		f.set(func() { f.ground.written = nil })
		if err := c.WritePool(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if got := len(f.ground.written) > 0; got != want {
			t.Errorf("wrote %v", f.ground.written)
		}
	}
	write(true)
	write(false)
	f.set(func() {
		f.ground.pools["gpu"].Meta["team"] = "search"
		f.ground.pools["gpu"].SchedulerConfiguration = &api.NodePoolSchedulerConfiguration{SchedulerAlgorithm: "spread"}
	})
	write(false)
	w.Description = "of worker groups gpu and spot"
	write(true)
	pool := f.ground.pools["gpu"]
	if pool.Meta["team"] != "search" || pool.SchedulerConfiguration == nil || pool.Description != w.Description {
		t.Errorf("what others set is lost: %+v", pool)
	}
	w.Name = "default"
	write(false)
}
