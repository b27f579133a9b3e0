package nodescale

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// What is asked for beside replicas that wait comes after them, whatever their
// jobs' priority is.
const (
	priorityAhead  = -1
	priorityBuffer = -2
)

// demand finds out where what waits would fit.
func (d *decider) demand() {
	for _, n := range d.in.Nodes {
		r := d.owner[n.ID]
		if d.backSoon(n) {
			back := *n
			back.Closed, back.Imagined = "", true
			n = &back
		}
		if n.Closed != "" || r != nil && (r.outdated() || r.Phase != raftstate.NodeReady && r.Phase != raftstate.NodeLaunching) {
			continue
		}
		d.packed.Nodes = append(d.packed.Nodes, n)
		d.holders = append(d.holders, r)
	}
	for _, r := range d.records {
		// A node that has just registered is not ready yet, and as much on its way
		// as one that has not.
		if r.Phase == raftstate.NodeLaunching && !r.open() && r.group != nil && !r.group.Deleting && !r.outdated() {
			coming := *r.group.pattern
			coming.ID, coming.Name = r.ID, r.ID
			d.packed.Nodes = append(d.packed.Nodes, &coming)
			d.holders = append(d.holders, r)
		}
	}
	for _, g := range d.groups {
		s := d.shape(g)
		if g.dry && s.Refused == "" {
			s.Most, s.Refused = 0, g.whyDry()
		}
		d.packed.Shapes = append(d.packed.Shapes, s)
	}
	d.packed.Asks = d.asks()
	d.own = len(d.packed.Asks)
	d.packed.Asks = append(d.packed.Asks, d.strayAsks()...)
	if len(d.packed.Asks) == 0 {
		return
	}
	d.result = placement.Pack(d.packed)
	d.result.New = append(d.result.New, d.rehearse()...)
	for _, p := range d.result.Placed {
		if r := d.holders[p.Node]; r != nil {
			r.claimedBy(&d.packed.Asks[p.Ask])
		}
	}
	d.pending()
}

// backSoon says whether a node is down because Nomad itself was away: when its
// servers have hung, all heartbeats are late, and the first that come undo it.
// No other is bought until then.
func (d *decider) backSoon(n *placement.Node) bool {
	until := d.next.Known.Add(backWithin)
	if n.Said.Status != "down" || d.next.Known.IsZero() || !d.in.Now.Before(until) || n.Said.Since.Before(d.next.Known.Add(-clockSlack)) {
		return false
	}
	d.again(until)
	return true
}

// waiting is the claim on a node of replicas that have no place yet.
const waiting = "replicas that wait are to be placed on it"

// claimedBy notes what room on a node is for.
func (r *record) claimedBy(a *placement.Ask) {
	switch {
	case a.Priority >= 0:
		r.claim = waiting
	case r.claim == "":
		r.claim = "room is kept on it: " + a.Key
	}
}

// whyDry says why a group only tells what it would do.
func (g *group) whyDry() string {
	if g.Spec.Target.Kind == appspec.TargetNone {
		return "its target, none, makes no nodes"
	}
	return "dry run: no node is made"
}

// rehearse says which nodes the groups that only tell would get, for what the
// others leave without a place: what is really done does not depend on them.
func (d *decider) rehearse() []placement.NewNode {
	if !slices.ContainsFunc(d.groups, func(g *group) bool { return g.dry }) {
		return nil
	}
	var in placement.Input
	for _, g := range d.groups {
		s := d.shape(g)
		if !g.dry {
			s.Most = 0
		}
		in.Shapes = append(in.Shapes, s)
	}
	for _, s := range d.result.Short {
		ask := d.packed.Asks[s.Ask]
		ask.Count = s.Count
		in.Asks = append(in.Asks, ask)
	}
	return placement.Pack(in).New
}

// shape is the group as placement sees it: its pattern, and how many more.
func (d *decider) shape(g *group) placement.Shape {
	s := placement.Shape{Node: *g.pattern, Most: max(0, g.most-g.occupied()), Priority: g.Spec.Priority, Price: g.Spec.Price}
	s.ID, s.Name = "", ""
	g.backoff = backoffUntil(g.Failures, d.in.Now)
	launching := g.phase(raftstate.NodeLaunching)
	switch {
	case g.Deleting:
		s.Most, s.Refused = 0, "it is being deleted"
	case g.clash != "":
		s.Most, s.Refused = 0, g.clash
	case g.Failures.Count > 0 && d.in.Now.Before(g.backoff):
		s.Most, s.Refused = 0, fmt.Sprintf("launches fail (%d in a row, the last: %s); the next try is in %s",
			g.Failures.Count, g.Failures.Reason, d.in.Now.Sub(g.backoff).Abs().Round(time.Second))
		d.again(g.backoff)
	case s.Most == 0 && g.phase(raftstate.NodeTerminating) > 0:
		s.Refused = fmt.Sprintf("it has %s, %d of them on their way out, and max_nodes is %d", plural(g.occupied(), "node"), g.phase(raftstate.NodeTerminating), g.most)
	case s.Most == 0:
		s.Refused = fmt.Sprintf("it has %s, and max_nodes is %d", plural(g.occupied(), "node"), g.most)
	case g.Failures.Count > 0 && launching > 0:
		s.Most, s.Refused = 0, "launches failed; one is tried before more are"
	case g.Failures.Count > 0:
		s.Most = 1
	}
	return s
}

// occupied is how many nodes count towards max_nodes: also those that go, until
// they are gone, but none of an earlier shape. There is to be room for the new
// ones while replicas move there.
func (g *group) occupied() int { return g.hand + len(g.records) - g.outdated() }

// outdated counts the group's nodes of earlier shapes.
func (g *group) outdated() int {
	n := 0
	for _, r := range g.records {
		if r.outdated() {
			n++
		}
	}
	return n
}

// backoffUntil is when a group whose launches fail may try again. A failure that
// is to come is one of a clock that went back, and is not waited for.
func backoffUntil(f raftstate.Failures, now time.Time) time.Time {
	if f.Count == 0 || f.LastAt.After(now.Add(clockSlack)) {
		return time.Time{}
	}
	pause := firstBackoff
	for range min(f.Count-1, 16) {
		pause = min(2*pause, longestPause)
	}
	return f.LastAt.Add(pause)
}

// asks lists what room is asked for: replicas that wait, replicas that are about
// to be ordered, and buffers.
func (d *decider) asks() []placement.Ask {
	var list []placement.Ask
	for _, a := range d.in.Asks {
		if a.Count > 0 {
			list = append(list, d.doubted(a))
		}
	}
	for _, a := range d.in.Ahead {
		a.Priority = priorityAhead
		list = append(list, a)
	}
	for _, g := range d.groups {
		if b := g.Spec.Buffer; b != nil && b.Replicas > 0 && b.Resources != nil && !g.Deleting {
			list = append(list, g.bufferAsk(d.coreMHz(g)))
		}
	}
	return list
}

// bufferAsk is the room for replicas that a group keeps free.
func (g *group) bufferAsk(coreMHz int) placement.Ask {
	b := g.Spec.Buffer
	a := placement.Ask{
		Key: "buffer of worker group " + g.Name, Count: b.Replicas, Pool: g.Spec.NodePool, Priority: priorityBuffer,
		Uses: placement.Resources{CPU: int(b.Resources.CPU * float64(coreMHz)), MemoryMB: b.Resources.MemoryMB},
	}
	if class := g.Spec.Node.Class; class != "" {
		a.Constraints = []placement.Constraint{{Left: "${node.class}", Operand: "=", Right: class}}
	}
	if b.Resources.GPU > 0 {
		a.Devices = []placement.DeviceAsk{{Name: "nvidia/gpu", Count: int(b.Resources.GPU)}}
	}
	return a
}

// doubted keeps replicas off the nodes on which Nomad, for longer than it
// needs, has not placed them although they are to fit there by what is known
// here. Nodes that hold nothing stay: where Nomad does not use one of these,
// another would not help, and none is bought.
func (d *decider) doubted(a placement.Ask) placement.Ask {
	since, placeable := d.mem.Placeable[a.Key]
	if !placeable || d.in.Now.Sub(since) < doubtAfter {
		return a
	}
	d.next.Placeable[a.Key] = since // the room is not seen while it is kept off it
	a.Constraints = slices.Clone(a.Constraints)
	for _, n := range d.packed.Nodes {
		if len(left(n)) > 0 {
			a.Constraints = append(a.Constraints, placement.Constraint{Left: "${node.unique.id}", Operand: "!=", Right: n.ID})
		}
	}
	return a
}

// pending reports on the replicas that wait: how many wait for what, and why.
func (d *decider) pending() {
	// By ask: how many fit on nodes that are there, how many wait for nodes of
	// which group, and how many would if that did more than tell.
	placeable := make([]int, len(d.packed.Asks))
	coming, rehearsed := make([]map[string]int, len(d.packed.Asks)), make([]map[string]int, len(d.packed.Asks))
	for i := range coming {
		coming[i], rehearsed[i] = map[string]int{}, map[string]int{}
	}
	index := map[string]int{}
	for i := range d.packed.Asks {
		index[d.packed.Asks[i].Key] = i
	}
	for _, p := range d.result.Placed {
		if n := d.packed.Nodes[p.Node]; n.Imagined {
			coming[p.Ask][d.holders[p.Node].Group] += p.Count
		} else {
			placeable[p.Ask] += p.Count
		}
	}
	for _, n := range d.result.New {
		g, to := d.groups[n.Shape], coming
		if g.dry {
			to = rehearsed
		}
		for key, count := range n.Holds {
			to[index[key]][g.Name] += count
		}
	}
	short := map[int]placement.Short{}
	for _, s := range d.result.Short {
		short[s.Ask] = s
	}
	for i := range d.packed.Asks {
		a := &d.packed.Asks[i]
		if a.Priority < 0 {
			continue
		}
		d.pendingOf(a, placeable[i], coming[i], rehearsed[i], short[i])
	}
}

func (d *decider) pendingOf(a *placement.Ask, placeable int, coming, rehearsed map[string]int, short placement.Short) {
	job := d.in.Jobs[a.Key]
	p := PendingReport{
		Job: a.Key, Application: job.Application, Deployment: job.Deployment, Count: a.Count,
		Since: d.since(d.mem.Pending, d.next.Pending, a.Key), Placeable: placeable, Groups: map[string]string{},
	}
	maps.Copy(p.Groups, short.Shapes)
	for name, n := range rehearsed {
		p.Groups[name] = fmt.Sprintf("would take %s on new nodes; %s", replicas(n), d.groupNamed(name).whyDry())
	}
	for name, n := range coming {
		p.Groups[name] = fmt.Sprintf("takes %s on nodes that are on their way", replicas(n))
		p.Coming += n
	}
	var why []string
	if placeable > 0 {
		since := d.since(d.mem.Placeable, d.next.Placeable, a.Key)
		if d.in.Now.Sub(since) >= doubtAfter {
			why = append(why, fmt.Sprintf("%d would fit on nodes that are there, but for %s Nomad has not placed %s: %s",
				placeable, d.in.Now.Sub(since).Round(time.Second), one(placeable, "it", "them"), orUnknown(job.Blocked)))
		} else {
			d.again(since.Add(doubtAfter))
			why = append(why, fmt.Sprintf("%d %s: Nomad is about to place %s",
				placeable, one(placeable, "fits on a node that is there", "fit on nodes that are there"), one(placeable, "it", "them")))
		}
	}
	if p.Coming > 0 {
		names := strings.Join(slices.Sorted(maps.Keys(coming)), ", ")
		why = append(why, fmt.Sprintf("%d %s of worker group %s on %s way", p.Coming, one(p.Coming, "waits for a node", "wait for nodes"), names, one(p.Coming, "its", "their")))
	}
	if short.Count > 0 {
		if short.Never {
			p.Never = short.Count
		}
		why = append(why, fmt.Sprintf("%d %s no place: %s", short.Count, one(short.Count, "has", "have"), short.Headline))
	}
	p.Reason = strings.Join(why, "; ")
	d.out.Report.Pending = append(d.out.Report.Pending, p)
}

func orUnknown(reason string) string {
	if reason == "" {
		return "it does not say why"
	}
	return reason
}

// one chooses between the words for one thing and for several.
func one(n int, single, several string) string {
	if n == 1 {
		return single
	}
	return several
}

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
}
