package nodescale

import (
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// How long things must have been so, or may take, before something follows.
const (
	settleAfter   = 100 * time.Millisecond // for which demand must stay as it is before nodes are ordered for it
	settleAtMost  = 400 * time.Millisecond // demand that keeps changing is not waited for longer
	doubtAfter    = 10 * time.Second       // for which Nomad may leave room unused that placement sees
	lostAfter     = 5 * time.Minute        // a node that is down so long is given up
	purgedAfter   = time.Minute            // and one that Nomad does not know any more
	joinAgain     = time.Minute            // in which nodes find a Nomad that was away
	backWithin    = 20 * time.Second       // in which nodes send a heartbeat to such a Nomad
	clockSlack    = time.Minute            // by which Nomad's clock and ours may differ
	keptFor       = 5 * time.Minute        // after a removal was given up, until it is tried again
	callAgain     = 15 * time.Second       // after a call that failed
	removeAgain   = 5 * time.Minute        // after a removal that went well, and the node is still there
	firstBackoff  = 10 * time.Second       // after a failed launch, doubled with each
	longestPause  = 10 * time.Minute       // between failed launches
	defaultLead   = 2 * time.Minute        // ahead of a schedule, while it is not known how long nodes take
	leadMargin    = 30 * time.Second       // ahead of a schedule, beside the time that nodes take
	maxCandidates = 100                    // nodes that are looked at for consolidation at once
)

// Decide says what to order, drain and remove now, and why everything else
// stays as it is.
//
// It runs through the same order each time: which Nomad node is which of those
// that were ordered; what each of these is to do next in its life; where the
// replicas that wait would fit, and what is to be ordered for the rest; what is
// not needed. Nothing is begun to be taken away while in.Hold says why not.
func Decide(in Input, mem Memory) (Decision, Memory) {
	d := begin(in, mem)
	d.demand()
	if in.Blind == "" {
		d.order()
	}
	d.shrink()
	d.report()
	return d.out, d.next
}

// begin takes in what there is, up to where the replicas that wait would fit.
func begin(in Input, mem Memory) *decider {
	d := &decider{in: in, mem: mem, next: Memory{
		Empty: map[string]time.Time{}, Fits: map[string]time.Time{}, Missing: map[string]time.Time{},
		Kept: map[string]time.Time{}, Pending: map[string]time.Time{}, Placeable: map[string]time.Time{},
		Patterns: map[string]*placement.Node{},
	}}
	if in.Blind == "" {
		d.next.Known = in.Now
		if !mem.Known.IsZero() && !mem.Known.After(in.Now) {
			d.next.Known = mem.Known
		}
	}
	d.out.Report = Report{At: in.Now, Hold: in.Hold, Groups: []GroupReport{}, Nodes: []NodeReport{}, Pending: []PendingReport{}}
	d.enterGroups()
	d.enterNodes()
	d.patterns()
	for _, r := range d.records {
		d.live(r)
	}
	return d
}

// decider is one decision in the making.
type decider struct {
	in   Input
	mem  Memory // of the last decision
	next Memory
	out  Decision

	groups  []*group // by name
	pools   map[string][]*group
	records []*record          // by id
	owner   map[string]*record // Nomad node id -> what was ordered
	hand    []*placement.Node  // nodes of groups that nobody ordered

	packed  placement.Input
	own     int       // of packed.Asks, those before what asks for room to move to
	cleared *record   // the node off which that is to move
	holders []*record // of packed.Nodes: the record, nil for a node that nobody ordered
	result  placement.Result
	room    *room // for consolidation; made when it is needed
}

// record is a node that was ordered.
type record struct {
	*raftstate.Node
	group   *group
	node    *placement.Node     // nil: Nomad does not know it
	to      raftstate.NodePhase // that this decision moves it to
	claim   string              // what is to be placed on it, or what room on it is kept for; "": nothing
	verdict string
	why     string
	due     time.Time
}

// group is a worker group with all that is known of it.
type group struct {
	*raftstate.WorkerGroup
	least, most int
	why         string // the bounds are what they are
	records     []*record
	hand        int // nodes of its pool that nobody ordered
	pattern     *placement.Node
	clash       string // why its nodes cannot be told from another group's
	dry         bool   // it only tells what it would do
	ordered     []order
	missed      string // why fewer were ordered than there is demand for
	backoff     time.Time
	notes       []string
}

// order is one node to be launched.
type order struct {
	reason  string
	claimed bool // something that waits is to be placed on it
}

// phase counts the group's nodes of its present shape in any of these phases.
func (g *group) phase(phases ...raftstate.NodePhase) int {
	n := 0
	for _, r := range g.records {
		if !r.outdated() && slices.Contains(phases, r.Phase) {
			n++
		}
	}
	return n
}

// outdated says whether a node is of an earlier shape than its group has now. A
// group that goes has no use for another shape.
func (r *record) outdated() bool {
	return r.group != nil && !r.group.Deleting && r.group.Outdated(r.Node)
}

// staying is how many nodes the group has or is about to have.
func (g *group) staying() int {
	return g.hand + len(g.ordered) + g.phase(raftstate.NodeLaunching, raftstate.NodeReady, raftstate.NodeReturning)
}

func (g *group) note(text string) { g.notes = append(g.notes, text) }

// again asks for another decision at a time.
func (d *decider) again(at time.Time) {
	if at.After(d.in.Now) && (d.out.Again.IsZero() || at.Before(d.out.Again)) {
		d.out.Again = at
	}
}

// since remembers since when something is so, from one decision to the next.
func (d *decider) since(was, is map[string]time.Time, key string) time.Time {
	at, known := was[key]
	if !known || at.After(d.in.Now) { // a clock that went back
		at = d.in.Now
	}
	is[key] = at
	return at
}

// enterGroups takes in the worker groups and finds those that cannot be told
// apart.
func (d *decider) enterGroups() {
	d.pools = map[string][]*group{}
	for _, name := range slices.Sorted(maps.Keys(d.in.Groups)) {
		g := &group{WorkerGroup: d.in.Groups[name]}
		g.dry = d.in.DryRun || g.Spec.DryRun || g.Spec.Target.Kind == appspec.TargetNone
		g.least, g.most, g.why = d.bounds(g)
		d.groups = append(d.groups, g)
		d.pools[g.Spec.NodePool] = append(d.pools[g.Spec.NodePool], g)
	}
	for _, list := range d.pools {
		classes := map[string]*group{}
		for _, g := range list {
			other := classes[g.Spec.Node.Class]
			if other != nil || len(list) > 1 && g.Spec.Node.Class == "" {
				g.clash = "its nodes cannot be told from another group's in node pool " + g.Spec.NodePool + ": give each group's node block a class of its own"
				if other != nil {
					other.clash = g.clash
				}
			}
			classes[g.Spec.Node.Class] = g
		}
	}
}

// bounds are the bounds in force now; the lower one as it will be by the time
// that a node which is ordered now is there.
func (d *decider) bounds(g *group) (least, most int, why string) {
	if g.Deleting {
		return 0, 0, "the group is being deleted"
	}
	least, most, why = g.Spec.NodeBounds(d.in.Now)
	if len(g.Spec.Schedules) > 0 {
		if ahead, mostAhead, whyAhead := g.Spec.NodeBounds(d.in.Now.Add(Lead(g.WorkerGroup))); ahead > least {
			least, most, why = ahead, max(most, mostAhead), whyAhead+", which begins soon"
		}
	}
	return min(least, most), most, why
}

// Lead is how far ahead of its need a node of a group is to be ordered; g may
// be nil.
func Lead(g *raftstate.WorkerGroup) time.Duration {
	if typical := StartTime(g); typical > 0 {
		return typical + leadMargin
	}
	return defaultLead
}

// StartTime is how long a group's nodes take from the order until they are
// ready: the median of the last few. 0: not known, or g is nil.
func StartTime(g *raftstate.WorkerGroup) time.Duration {
	if g == nil || len(g.Usage.Starts) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(g.Usage.Starts))
	return time.Duration(sorted[len(sorted)/2]) * time.Millisecond
}

// groupOf returns the worker group that a Nomad node belongs to.
func (d *decider) groupOf(n *placement.Node) *group {
	list := d.pools[n.Pool]
	if len(list) == 1 {
		if class := list[0].Spec.Node.Class; class != "" && class != n.Class {
			return nil
		}
		return list[0]
	}
	for _, g := range list {
		if g.Spec.Node.Class == n.Class {
			return g
		}
	}
	return nil
}

// enterNodes finds out which Nomad node is which of those that were ordered.
func (d *decider) enterNodes() {
	d.owner = map[string]*record{}
	orders := orders{map[string]*record{}, map[string]*record{}, map[string][]*record{}}
	for _, id := range slices.Sorted(maps.Keys(d.in.Records)) {
		r := &record{Node: d.in.Records[id]}
		r.group = d.groupNamed(r.Group)
		d.records = append(d.records, r)
		if r.group != nil {
			r.group.records = append(r.group.records, r)
		}
		orders.byID[id] = r
		if r.NomadID != "" {
			orders.joined[r.NomadID] = r
		} else if instance := d.instance(r); instance != "" {
			orders.byInstance[instance] = append(orders.byInstance[instance], r)
		}
	}
	var strangers []*placement.Node
	for _, n := range d.in.Nodes {
		r := orders.of(n)
		if r == nil || !r.isRather(n) {
			strangers = append(strangers, n)
			continue
		}
		if r.node != nil {
			strangers = append(strangers, r.node)
			delete(d.owner, r.node.ID)
		}
		r.node, d.owner[n.ID] = n, r
	}
	d.adopt(strangers)
}

// orders are the nodes that were ordered, by what tells which one a Nomad node is.
type orders struct {
	byID       map[string]*record
	joined     map[string]*record // by the Nomad node that they became
	byInstance map[string][]*record
}

// of returns what a node was ordered as; nil: that is not known. The machine's
// name is the weakest sign. Nodes of other groups, also those that nobody
// ordered, may run on a host of that name, so it counts only for a node of the
// right kind that came after the order, and only if no other order has it too.
func (o orders) of(n *placement.Node) *record {
	for _, r := range []*record{o.joined[n.ID], o.byID[n.Said.Launch], o.byID[n.Name]} {
		if r != nil {
			return r
		}
	}
	if n.Said.Launch != "" {
		return nil
	}
	var found *record
	for _, name := range instanceNames(n) {
		for _, r := range o.byInstance[name] {
			switch {
			case r.group == nil || misplaced(n, r.group) || n.Said.Since.Before(r.At.Add(-clockSlack)) || r == found:
			case found != nil:
				return nil
			default:
				found = r
			}
		}
	}
	return found
}

// isRather says whether n is what came of r, rather than the node that was found
// before: a machine that lost its disk is another node to Nomad.
func (r *record) isRather(n *placement.Node) bool {
	if r.node == nil {
		return true
	}
	if was, is := r.node.Said.Status == "down", n.Said.Status == "down"; was != is {
		return was
	}
	if n.ID == r.NomadID || r.node.ID == r.NomadID {
		return n.ID == r.NomadID
	}
	return n.Said.Since.After(r.node.Said.Since)
}

// misplaced says that a node is not of the kind that a group's nodes are.
func misplaced(n *placement.Node, g *group) bool {
	class := g.Spec.Node.Class
	return n.Pool != g.Spec.NodePool || class != "" && n.Class != class
}

// adopt matches nodes that joined to what was ordered of a target that only
// counts, the oldest order first; the rest were put there by hand.
func (d *decider) adopt(strangers []*placement.Node) {
	slices.SortFunc(strangers, func(a, b *placement.Node) int { return a.Said.Since.Compare(b.Said.Since) })
	for _, n := range strangers {
		g := d.groupOf(n)
		if g == nil {
			continue
		}
		if r := g.awaits(n); r != nil {
			r.node, d.owner[n.ID] = n, r
			continue
		}
		d.hand = append(d.hand, n)
		if n.Said.Status != "down" {
			g.hand++
		}
	}
}

// awaits returns the oldest order that n may be what came of.
func (g *group) awaits(n *placement.Node) *record {
	if g.Spec.Target.Kind != appspec.TargetPlugin || n.Said.Launch != "" {
		return nil
	}
	var oldest *record
	for _, r := range g.records {
		if r.Phase == raftstate.NodeLaunching && r.node == nil && !n.Said.Since.Before(r.At) &&
			(oldest == nil || r.At.Before(oldest.At)) {
			oldest = r
		}
	}
	return oldest
}

func (d *decider) groupNamed(name string) *group {
	i := slices.IndexFunc(d.groups, func(g *group) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return d.groups[i]
}

// instance is the target's own name for what was ordered.
func (d *decider) instance(r *record) string {
	if r.Instance != "" {
		return r.Instance
	}
	return d.in.Calls[r.ID].Instance
}

// instanceNames is what clouds call the machine that a node runs on.
func instanceNames(n *placement.Node) []string {
	var names []string
	for _, attribute := range []string{"unique.platform.aws.instance-id", "unique.platform.gce.hostname", "unique.platform.azure.name", "unique.hostname"} {
		if name := n.Attributes[attribute]; name != "" {
			names = append(names, name)
		}
	}
	return names
}
