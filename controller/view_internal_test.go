package controller

import (
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

func TestNodesThatAreToGoDoSoInSilence(t *testing.T) {
	state := &raftstate.State{Nodes: map[string]*raftstate.Node{
		"going": {ID: "going", Phase: raftstate.NodeTerminating}, "draining": {ID: "draining", Phase: raftstate.NodeDraining},
	}}
	got := unintended(state, []raftstate.Event{
		{Type: "node-down", Node: "going"},
		{Type: "node-up", Node: "going"},
		{Type: "node-down", Node: "draining"},
		{Type: "node-down", Node: "unknown"},
		{Type: "nomad-away"},
	})
	if len(got) != 4 || got[0].Type != "node-up" {
		t.Errorf("got %+v", got)
	}
}

func TestNewsOfReplicasThatWaitWakeThoseWhoWatch(t *testing.T) {
	c := &Controller{cfg: Config{Logger: hclog.NewNullLogger()}, view: newViewer(&raftstate.State{})}
	n := newNoder(c)
	report := func(reason string) *nodescale.Report {
		return &nodescale.Report{Pending: []nodescale.PendingReport{{Job: "web", Reason: reason}}}
	}
	for _, step := range []struct {
		report *nodescale.Report
		news   bool
	}{
		{nil, false},
		{report("a node is on its way"), true},
		{report("a node is on its way"), false},
		{report("no node"), true},
		{nil, true},
		{&nodescale.Report{}, false},
	} {
		before := c.View().Index
		n.tell(step.report)
		if got := c.View().Index != before; got != step.news {
			t.Errorf("%+v: got %v", step.report, got)
		}
	}
}
