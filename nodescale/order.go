package nodescale

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// order orders nodes: for what has no place, then up to the lower bounds and for
// buffers of whole nodes.
func (d *decider) order() {
	d.orderForDemand()
	for _, g := range d.groups {
		if g.Deleting {
			continue
		}
		for g.staying() < g.least && d.add(g, fmt.Sprintf("at least %s: %s", plural(g.least, "node"), g.why)) {
		}
		if b := g.Spec.Buffer; b != nil {
			for d.free(g) < b.Nodes && d.add(g, fmt.Sprintf("buffer: %s to be kept free", plural(b.Nodes, "node"))) {
			}
		}
	}
	d.launch()
}

// orderForDemand takes over what placement has found, once the demand has stood
// still for a moment: replicas of several deployments that are scaled together
// come within milliseconds of each other, and pack better together.
func (d *decider) orderForDemand() {
	if len(d.result.New) == 0 {
		return
	}
	var key strings.Builder
	for _, a := range d.packed.Asks {
		fmt.Fprintf(&key, "%s=%d ", a.Key, a.Count)
	}
	d.next.Demand, d.next.DemandAt, d.next.WantAt = key.String(), d.in.Now, d.in.Now
	if !d.mem.WantAt.IsZero() && !d.mem.WantAt.After(d.in.Now) {
		d.next.WantAt = d.mem.WantAt
		if d.mem.Demand == d.next.Demand {
			d.next.DemandAt = d.mem.DemandAt
		}
	}
	ready := d.next.DemandAt.Add(settleAfter)
	if latest := d.next.WantAt.Add(settleAtMost); latest.Before(ready) {
		ready = latest
	}
	if d.in.Now.Before(ready) {
		d.again(ready)
		for _, n := range d.result.New {
			d.groups[n.Shape].missed = "demand is still coming in"
		}
		return
	}
	for _, n := range d.result.New {
		d.groups[n.Shape].ordered = append(d.groups[n.Shape].ordered, order{d.forWhom(n.Holds), true})
	}
}

// forWhom says what a new node is for.
func (d *decider) forWhom(holds map[string]int) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(holds)) {
		name := key
		if job, known := d.in.Jobs[key]; known {
			name = job.name()
		}
		parts = append(parts, fmt.Sprintf("%s of %s", replicas(holds[key]), name))
		if len(parts) == 4 && len(holds) > 5 {
			parts = append(parts, fmt.Sprintf("and of %d more", len(holds)-4))
			break
		}
	}
	return "no place for " + strings.Join(parts, ", ")
}

// add orders one more node of a group, if it may have one.
func (d *decider) add(g *group, reason string) bool {
	s := d.shape(g)
	if s.Most-len(g.ordered) <= 0 {
		g.missed = s.Refused
		if g.missed == "" {
			g.missed = fmt.Sprintf("max_nodes is %d", g.most)
		}
		return false
	}
	g.ordered = append(g.ordered, order{reason, false})
	return true
}

// free is how many nodes of a group hold nothing and are to hold nothing: those
// that are there, those on their way, and those that were just ordered.
func (d *decider) free(g *group) int {
	n := 0
	for _, r := range g.records {
		switch {
		case r.claim != "", r.outdated():
		case r.Phase == raftstate.NodeLaunching,
			r.Phase == raftstate.NodeReady && r.open() && len(left(r.node)) == 0:
			n++
		}
	}
	for _, o := range g.ordered {
		if !o.claimed {
			n++
		}
	}
	return n
}

// open says whether Nomad places replicas on the node.
func (r *record) open() bool { return r.node != nil && r.node.Closed == "" }

// launch proposes what was ordered.
func (d *decider) launch() {
	for _, g := range d.groups {
		if g.dry {
			continue
		}
		for i, o := range g.ordered {
			d.out.Changes = append(d.out.Changes, raftstate.NodeChange{
				ID: d.newID(g.Name, i), Group: g.Name, To: raftstate.NodeLaunching, Reason: o.reason,
			})
		}
	}
}

// newID makes an id that no node has: by the group, the time and a count, so
// that the decision stays a function of its input.
func (d *decider) newID(group string, i int) string {
	for salt := 0; ; salt++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d %d", group, d.in.Now.UnixNano(), i, salt))
		id := group + "-" + hex.EncodeToString(sum[:4])
		if _, taken := d.in.Records[id]; !taken {
			return id
		}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
