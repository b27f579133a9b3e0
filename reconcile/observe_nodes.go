package reconcile

import (
	"fmt"
	"strings"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// nodes reports nodes that were ordered and go up or down in Nomad. Both looks
// must have seen the nodes.
func (o *observer) nodes(before, after *World) {
	if !before.NodesKnown || !after.NodesKnown {
		return
	}
	was := map[string]*placement.Node{}
	for _, n := range before.Nodes {
		was[n.ID] = n
	}
	for _, n := range after.Nodes {
		old := was[n.ID]
		delete(was, n.ID)
		switch {
		case ready(n) && !ready(old):
			o.node("node-up", n, fmt.Sprintf("node %s is ready in Nomad", n.Name))
		case !ready(n) && ready(old):
			o.node("node-down", n, fmt.Sprintf("node %s is %s in Nomad", n.Name, n.Said.Status))
		}
	}
	for _, old := range before.Nodes {
		if was[old.ID] != nil && ready(old) {
			o.node("node-down", old, fmt.Sprintf("Nomad does not know node %s any more", old.Name))
		}
	}
}

func ready(n *placement.Node) bool { return n != nil && n.Said.Status == api.NodeStatusReady }

// node reports a node if it was ordered: what else is in the cluster is others'.
// Its id begins with the name of its worker group.
func (o *observer) node(kind string, n *placement.Node, message string) {
	end := strings.LastIndexByte(n.Said.Launch, '-')
	if end < 0 {
		return
	}
	o.events = append(o.events, raftstate.Event{
		At: o.now, Type: kind, WorkerGroup: n.Said.Launch[:end], Node: n.Said.Launch, Message: message,
	})
}
