package nodescale

import (
	"fmt"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// report says of every group and node what becomes of it and why.
func (d *decider) report() {
	for _, g := range d.groups {
		d.out.Report.Groups = append(d.out.Report.Groups, d.groupReport(g))
	}
	for _, r := range d.records {
		d.out.Report.Nodes = append(d.out.Report.Nodes, d.nodeReport(r))
	}
	for _, n := range d.hand {
		report := describe(n)
		report.ID, report.Verdict = n.ID, "keep"
		report.Group = d.groupOf(n).Name
		report.Reason = "nobody here ordered it: it is used, and never removed"
		if n.Said.Launch != "" {
			report.Reason = fmt.Sprintf("it says that it was launched as %s, which is not known here: it is used, and never removed", n.Said.Launch)
		}
		d.out.Report.Nodes = append(d.out.Report.Nodes, report)
	}
	slices.SortStableFunc(d.out.Report.Nodes, func(a, b NodeReport) int {
		return strings.Compare(a.Group+" "+a.ID, b.Group+" "+b.ID)
	})
}

func (d *decider) groupReport(g *group) GroupReport {
	r := GroupReport{
		Name: g.Name, NodePool: g.Spec.NodePool, Target: g.Spec.Target.Kind, DryRun: g.dry, Deleting: g.Deleting,
		Ready: g.phase(raftstate.NodeReady), Launching: g.phase(raftstate.NodeLaunching),
		Draining: g.phase(raftstate.NodeDraining, raftstate.NodeReturning, raftstate.NodeTerminating), ByHand: g.hand, Outdated: g.outdated(),
		MinNodes: g.least, MaxNodes: g.most, Price: g.Spec.Price, StartTime: StartTime(g.WorkerGroup).Seconds(), Notes: g.notes,
		Failure: g.Failures.Reason, Cost: d.cost(g),
	}
	if g.clash != "" {
		r.Notes = append(r.Notes, g.clash)
	}
	r.Notes = append(r.Notes, d.doubts(g)...)
	if g.backoff.After(d.in.Now) {
		r.Backoff = g.backoff
	}
	r.Wants = g.staying()
	for _, c := range d.out.Changes {
		if c.Group == g.Name && (c.To == raftstate.NodeDraining || c.To == raftstate.NodeTerminating) && c.From != raftstate.NodeDraining && !d.isOutdated(c.ID) {
			r.Wants--
		}
	}
	r.Reason = d.groupReason(g)
	return r
}

// isOutdated says whether a record is of an earlier shape of its group.
func (d *decider) isOutdated(id string) bool {
	return slices.ContainsFunc(d.records, func(r *record) bool { return r.ID == id && r.outdated() })
}

func (d *decider) groupReason(g *group) string {
	switch {
	case g.Deleting:
		return fmt.Sprintf("it is being deleted: %s to go", plural(len(g.records), "node"))
	case len(g.ordered) > 0 && g.dry:
		return fmt.Sprintf("dry run: it would order %s: %s", plural(len(g.ordered), "node"), g.ordered[0].reason)
	case len(g.ordered) > 0:
		return fmt.Sprintf("orders %s: %s", plural(len(g.ordered), "node"), g.ordered[0].reason)
	case g.missed != "":
		return "orders no node now: " + g.missed
	case d.shortage(g) != "":
		return d.shortage(g)
	case g.staying() == 0 && g.least == 0 && g.outdated() == 0:
		return "nothing asks for a node"
	case g.staying() <= g.least:
		return g.why
	default:
		return d.use(g)
	}
}

// shortage says why replicas that would fit the group's nodes get none; "": there
// are no such replicas.
func (d *decider) shortage(g *group) string {
	refused := d.packed.Shapes[slices.Index(d.groups, g)].Refused
	count := 0
	for _, s := range d.result.Short {
		if refused != "" && s.Shapes[g.Name] == refused && d.packed.Asks[s.Ask].Priority >= 0 {
			count += s.Count
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("no node for %s without a place: %s", replicas(count), refused)
}

// use says what the group's nodes are for: "2 in use, 1 empty".
func (d *decider) use(g *group) string {
	busy, empty := 0, 0
	count := func(n *placement.Node, used bool) {
		if used || len(left(n)) > 0 {
			busy++
		} else {
			empty++
		}
	}
	for _, r := range g.records {
		if r.node != nil && !r.outdated() && (r.Phase == raftstate.NodeReady || r.Phase == raftstate.NodeReturning) {
			count(r.node, r.claim == waiting)
		}
	}
	for _, n := range d.hand {
		if d.groupOf(n) == g && n.Said.Status != "down" {
			count(n, false)
		}
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{busy, "in use"}, {empty, "empty"}, {g.phase(raftstate.NodeLaunching), "on the way"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if over := g.staying() - g.most; over > 0 {
		parts = append(parts, fmt.Sprintf("%d above max_nodes", over))
	}
	if n := g.outdated(); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of an earlier shape", n))
	}
	return strings.Join(parts, ", ")
}

// doubts tells where the target and Nomad do not agree.
func (d *decider) doubts(g *group) []string {
	listed, known := d.in.Lists[g.Name]
	if !known {
		return nil
	}
	if listed.Never {
		return nil
	}
	if listed.Error != "" {
		return []string{"its target does not say what there is: " + listed.Error}
	}
	joined := g.hand + g.phase(raftstate.NodeReady, raftstate.NodeDraining, raftstate.NodeReturning)
	if l := listed.Listing; l.Counted && l.Count < joined {
		return []string{fmt.Sprintf("its target says that there are %s, Nomad knows %d", plural(l.Count, "machine"), joined)}
	}
	var strays []string
	for _, i := range listed.Listing.Instances {
		_, ours := d.in.Records[i.ID]
		if i.ID != "" && !ours && i.State != "ended" {
			strays = append(strays, i.ID)
		}
	}
	if len(strays) > 0 {
		return []string{fmt.Sprintf("its target has %s that nobody here ordered, and that is left alone: %s", plural(len(strays), "machine"), strings.Join(strays[:min(len(strays), 5)], ", "))}
	}
	return nil
}

// cost adds up what the group has cost.
func (d *decider) cost(g *group) Cost {
	seconds, idle, there := g.Usage.Seconds, 0, 0
	for _, r := range g.records {
		seconds += max(0, d.in.Now.Sub(r.At).Seconds())
		there++
		if r.node == nil || len(left(r.node)) == 0 {
			idle++
		}
	}
	c := Cost{NodeHours: seconds / 3600, PerHour: float64(there) * g.Spec.Price, Total: seconds / 3600 * g.Spec.Price}
	if there > 0 {
		c.IdleShare = float64(idle) / float64(there)
	}
	return c
}

func (d *decider) nodeReport(r *record) NodeReport {
	report := NodeReport{ID: r.ID}
	if r.node != nil {
		report = describe(r.node)
		report.ID = r.ID
	}
	report.Group, report.Phase, report.Since = r.Group, r.Phase, r.PhaseAt
	report.Verdict, report.Reason, report.Due = r.verdict, r.why, r.due
	return report
}

// describe says what a Nomad node has and holds.
func describe(n *placement.Node) NodeReport {
	r := NodeReport{Name: n.Name, NomadID: n.ID, Pool: n.Pool, Status: n.Said.Status}
	r.CPU.Total, r.MemoryMB.Total = n.Room.CPU, n.Room.MemoryMB
	for _, device := range n.Devices {
		if device.Type == "gpu" {
			r.GPU.Total += len(device.Instances)
		}
	}
	for _, a := range n.Allocs {
		r.CPU.Used += a.Uses.CPU
		r.MemoryMB.Used += a.Uses.MemoryMB
		for name, instances := range a.Devices {
			if strings.Contains(name, "/gpu/") {
				r.GPU.Used += len(instances)
			}
		}
		switch {
		case a.System:
		case a.Ours:
			r.Replicas++
		default:
			r.Others++
		}
	}
	return r
}
