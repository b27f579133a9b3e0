package controller

import (
	"testing"

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
