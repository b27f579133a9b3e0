package nodescale

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// shrink decides which nodes are not needed: of a group that is being deleted or
// has more than it may have, all that can go; else those that have been empty
// for idle_timeout, and of those whose replicas have long fitted elsewhere one.
func (d *decider) shrink() {
	var list []*shrinker
	for _, g := range d.groups {
		g.surplus(d)
		s := &shrinker{decider: d, group: g, floor: g.least, total: g.staying() - g.givenUp(), going: g.going()}
		s.budget, s.budgetWhy = g.Spec.EffectiveScaleDown().BudgetAt(d.in.Now, s.total+s.going)
		s.empty()
		list = append(list, s)
	}
	for _, s := range list {
		s.moveStrays() // before any group consolidates: it is what room may have been ordered for
	}
	for _, s := range list {
		s.consolidate()
		if s.group.Deleting && len(s.group.records) == 0 {
			d.out.Forget = append(d.out.Forget, s.group.Name)
		}
	}
}

// surplus lets nodes go that have not joined yet and are above the bound.
func (g *group) surplus(d *decider) {
	if d.in.Hold != "" {
		return
	}
	over := g.staying() - g.givenUp() - g.most
	for _, r := range slices.Backward(g.records) {
		if over <= 0 {
			return
		}
		if r.Phase == raftstate.NodeLaunching && !r.outdated() && r.verdict == "wait" && r.node == nil {
			d.move(r, raftstate.NodeTerminating, fmt.Sprintf("the group has more nodes than it may have, %d", g.most))
			over--
		}
	}
}

// givenUp counts the nodes that stayed until now, and that this decision itself
// has given up.
func (g *group) givenUp() int {
	n := 0
	for _, r := range g.records {
		if r.to == raftstate.NodeTerminating && r.Phase != raftstate.NodeDraining && !r.outdated() {
			n++
		}
	}
	return n
}

// going is how many nodes that were in use are on their way out. One that never
// joined is missed by nobody, however long its target takes to remove it.
func (g *group) going() int {
	n := 0
	for _, r := range g.records {
		if !r.outdated() && (r.Phase == raftstate.NodeDraining || r.Phase == raftstate.NodeTerminating && !r.JoinedAt.IsZero()) {
			n++
		}
	}
	return n
}

// shrinker is the taking away in one group.
type shrinker struct {
	*decider
	group     *group
	total     int // nodes that it has or is about to have
	floor     int
	budget    int // nodes that may be going at once
	budgetWhy string
	going     int
}

// stays says why a node may not go now though it is not needed; "": it may.
func (s *shrinker) stays() string {
	switch {
	case s.group.Deleting:
		return ""
	case s.bottom():
		return fmt.Sprintf("the group is to have at least %s: %s", plural(s.floor, "node"), s.group.why)
	case s.going >= s.budget:
		if s.going == 0 {
			return s.budgetWhy
		}
		return fmt.Sprintf("%s going already: %s", areGoing(s.going), s.budgetWhy)
	default:
		return ""
	}
}

// patience is the verdict on a node that may not go now: a budget is free again
// some time, the lower bound is for good.
func (s *shrinker) patience() string {
	if s.bottom() {
		return "keep"
	}
	return "wait"
}

// bottom says that the group has no node more than it is to have at least.
func (s *shrinker) bottom() bool { return !s.group.Deleting && s.total <= s.floor }

func areGoing(n int) string {
	if n == 1 {
		return "1 node is"
	}
	return fmt.Sprintf("%d nodes are", n)
}

// candidates are the group's nodes that are ready and not on their way
// elsewhere, those first that have done without work for longest.
func (s *shrinker) candidates() []*record {
	var list []*record
	for _, r := range s.group.records {
		retired := s.group.Deleting && r.Phase == raftstate.NodeRetiring
		if r.Phase != raftstate.NodeReady && !retired || r.verdict != "keep" || r.node == nil || r.outdated() {
			continue
		}
		if r.node.Closed != "" && (!s.group.Deleting || r.node.Said.Status != "ready") {
			r.why = "left alone: " + whyClosed(r.node)
			continue
		}
		list = append(list, r)
	}
	return list
}

// whyClosed says why Nomad places nothing on a node.
func whyClosed(n *placement.Node) string {
	if n.Said.Status == "ready" && (n.Said.Draining || !n.Said.Eligible) {
		return "somebody has closed it (" + n.Closed + ")"
	}
	return "Nomad places nothing on it (" + n.Closed + ")"
}

// empty lets nodes go that have been empty for idle_timeout.
func (s *shrinker) empty() {
	type idle struct {
		*record
		since time.Time
	}
	var list []idle
	for _, r := range s.candidates() {
		switch rest := left(r.node); {
		case len(rest) > 0:
			r.why = holding(rest)
		case r.claim != "":
			r.why = "empty; " + r.claim
		default:
			list = append(list, idle{r, s.since(s.mem.Empty, s.next.Empty, r.ID)})
		}
	}
	slices.SortStableFunc(list, func(a, b idle) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.ID, b.ID)) })
	spare := len(list)
	if b := s.group.Spec.Buffer; b != nil && !s.group.Deleting {
		spare = max(0, spare-b.Nodes)
	}
	over := s.total - s.group.most
	for i, r := range list {
		timeout := s.group.Spec.IdleTimeout.Std()
		if over > 0 || s.group.Deleting {
			timeout = 0
		}
		due := r.since.Add(timeout)
		why := fmt.Sprintf("empty for %s", s.in.Now.Sub(r.since).Round(time.Second))
		switch {
		case s.in.Hold != "":
			r.why = why + "; nothing is taken away now: " + s.in.Hold
			delete(s.next.Empty, r.ID) // what is not seen is not known to have stayed so
		case i >= spare:
			r.why = why + fmt.Sprintf("; kept as buffer of %s", plural(s.group.Spec.Buffer.Nodes, "node"))
		case s.keptLately(r.record) != "":
			r.why = why + "; " + s.keptLately(r.record)
		case s.in.Now.Before(due) && !s.bottom():
			r.verdict, r.due, r.why = "wait", due, fmt.Sprintf("%s; it goes after idle_timeout, %s", why, timeout)
			s.again(due)
		case s.stays() != "":
			r.verdict, r.why = s.patience(), why+"; "+s.stays()
		default:
			over--
			s.remove(r.record, s.because(why), nil)
		}
	}
}

// because adds why the group gives up nodes at all, where that is not idleness.
func (s *shrinker) because(why string) string {
	switch {
	case s.group.Deleting:
		return "the group is being deleted; " + why
	case s.total > s.group.most:
		return fmt.Sprintf("the group has more nodes than it may have, %d; %s", s.group.most, why)
	default:
		return why
	}
}

// remove begins the removal of a node.
func (s *shrinker) remove(r *record, reason string, surge map[string]int) {
	s.total--
	s.going++
	if s.group.dry {
		r.verdict, r.why = "remove", "it would go (dry run): "+reason
		return
	}
	s.move(r, raftstate.NodeDraining, reason)
	s.out.Changes[len(s.out.Changes)-1].Surge = surge
}

// keptLately says that a removal was given up a short while ago.
func (s *shrinker) keptLately(r *record) string {
	at, was := s.mem.Kept[r.ID]
	if !was || s.in.Now.Sub(at) >= keptFor {
		return ""
	}
	s.next.Kept[r.ID] = at
	s.again(at.Add(keptFor))
	return fmt.Sprintf("its removal was given up %s ago and is tried again after %s", s.in.Now.Sub(at).Round(time.Second), keptFor)
}

// holding says what is on a node.
func holding(rest []placement.Alloc) string {
	ours := 0
	for _, a := range rest {
		if a.Ours {
			ours++
		}
	}
	others := len(rest) - ours
	switch {
	case others == 0:
		return "it holds " + replicas(ours)
	case ours == 0:
		return fmt.Sprintf("it holds %s of other jobs", plural(others, "allocation"))
	default:
		return fmt.Sprintf("it holds %s, and %s of other jobs", replicas(ours), plural(others, "allocation"))
	}
}

// consolidate lets one node go whose replicas have fitted elsewhere for
// consolidate_after, after Karpenter's single-node consolidation: the one first
// that has the fewest to move. Nothing is moved while anything waits, comes or
// goes, since room that is free now is then about to be used.
func (s *shrinker) consolidate() {
	g := s.group
	settings := g.Spec.EffectiveScaleDown()
	forced := g.Deleting || s.total > g.most
	if !settings.Consolidate && !forced {
		return
	}
	unrest := s.unrest()
	list := s.candidates()
	if unrest == "" && !forced && slices.ContainsFunc(g.records, (*record).standsEmpty) {
		// There Nomad would put them, as it spreads replicas over nodes: one node
		// in use would be exchanged for another.
		unrest = "not while a node of the group stands empty"
	}
	if b := g.Spec.Buffer; unrest == "" && !forced && b != nil && b.Replicas > 0 {
		// The same: they would take that room, and it would be bought again.
		unrest = "not in a group that keeps room free for replicas"
	}
	if b := g.Spec.Buffer; unrest == "" && !forced && b != nil && s.free(g) < b.Nodes {
		unrest = "not while the group has fewer empty nodes than it is to keep: another would be bought in its stead"
	}
	for _, r := range list {
		if r.claim != "" {
			if len(left(r.node)) > 0 {
				r.why += "; " + r.claim
			}
			s.later(r)
		}
	}
	list = slices.DeleteFunc(list, func(r *record) bool { return len(left(r.node)) == 0 || r.claim != "" })
	slices.SortStableFunc(list, func(a, b *record) int {
		return cmp.Or(cmp.Compare(len(left(a.node)), len(left(b.node))), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range list[:min(len(list), maxCandidates)] {
		if why := s.bound(r); why != "" {
			s.later(r)
			r.why += ", " + why
			continue
		}
		surge, why := s.elsewhere(r)
		if why != "" {
			r.why += "; " + why
			continue
		}
		since := s.since(s.mem.Fits, s.next.Fits, r.ID)
		after := settings.ConsolidateAfter.Std()
		if forced {
			after = 0
		}
		r.why += fmt.Sprintf("; there has been room for that elsewhere for %s", s.in.Now.Sub(since).Round(time.Second))
		due := since.Add(after)
		switch {
		case s.in.Hold != "":
			r.why += "; nothing is taken away now: " + s.in.Hold
			delete(s.next.Fits, r.ID)
		case unrest != "":
			r.why += "; " + unrest
		case s.keptLately(r) != "":
			r.why += "; " + s.keptLately(r)
		case s.in.Now.Before(due) && !s.bottom():
			r.verdict, r.due, r.why = "wait", due, r.why+fmt.Sprintf("; it goes after consolidate_after, %s", after)
			s.again(due)
		case s.stays() != "":
			r.verdict, r.why = s.patience(), r.why+"; "+s.stays()
		default:
			s.remove(r, s.because(fmt.Sprintf("its %s fit on other nodes", replicas(len(left(r.node))))), surge)
			unrest = "another node goes first"
		}
	}
}

// later goes on counting for how long what is on a node has fitted elsewhere,
// while that is not looked at: replicas that come and go all the time would put
// it off for ever. It is looked at again before the node goes.
func (s *shrinker) later(r *record) {
	if _, known := s.mem.Fits[r.ID]; known {
		s.since(s.mem.Fits, s.next.Fits, r.ID)
	}
}

// standsEmpty says whether Nomad may place replicas on the node, and it has none.
func (r *record) standsEmpty() bool {
	return r.Phase == raftstate.NodeReady && !r.outdated() && r.verdict != "remove" && r.open() && len(left(r.node)) == 0
}

// unrest says why nothing is moved now.
func (s *shrinker) unrest() string {
	switch {
	case s.placing():
		return "not while replicas wait for a place that they are about to have"
	case slices.ContainsFunc(s.groups, func(g *group) bool { return len(g.ordered) > 0 && !g.dry }),
		slices.ContainsFunc(s.records, func(r *record) bool { return r.Phase == raftstate.NodeLaunching }):
		return "not while nodes are on their way"
	case slices.ContainsFunc(s.records, func(r *record) bool { return r.Phase == raftstate.NodeDraining }):
		return "another node goes first"
	case slices.ContainsFunc(s.out.Changes, func(c raftstate.NodeChange) bool { return c.To == raftstate.NodeDraining && len(c.Surge) > 0 }):
		return "another node goes first"
	default:
		return ""
	}
}

// placing says whether replicas that wait are about to take room. Those that
// have no place, for which no node is ordered either, keep nothing.
func (s *shrinker) placing() bool {
	return slices.ContainsFunc(s.result.Placed, func(p placement.Placed) bool { return s.packed.Asks[p.Ask].Priority >= 0 }) ||
		slices.ContainsFunc(s.result.New, func(n placement.NewNode) bool { return !s.groups[n.Shape].dry })
}

// bound says why what is on a node must stay there.
func (s *shrinker) bound(r *record) string {
	for _, a := range left(r.node) {
		switch job, known := s.in.Jobs[a.Job]; {
		case !a.Ours:
			return "which serve-nomad does not move"
		case !a.Movable:
			return fmt.Sprintf("and Nomad does not move those of job %s", a.Job)
		case !known:
			return fmt.Sprintf("and job %s is not known yet", a.Job)
		case job.Passing < job.Target:
			return fmt.Sprintf("and only %d of %d replicas of %s serve", job.Passing, job.Target, job.name())
		}
	}
	return ""
}

// elsewhere says whether everything on a node would fit on the others, with the
// one replica of each job beside them that lets nobody miss any meanwhile, and
// if so, which these are; else why not.
func (s *shrinker) elsewhere(r *record) (surge map[string]int, why string) {
	asks, surge := s.moving(r)
	if s.room == nil {
		s.room = s.openNodes()
	}
	short, placed, ok := s.room.lacks(asks, r.node.ID)
	if ok {
		return surge, ""
	}
	return nil, fmt.Sprintf("to move, %s of %s need room elsewhere, and there is room for %d", replicas(short.Count), s.in.Jobs[short.Key].name(), placed)
}

// moving returns what the replicas on a node ask for elsewhere, by job, and how
// many more of each are to run meanwhile.
func (d *decider) moving(r *record) (asks []placement.Ask, surge map[string]int) {
	count := map[string]int{}
	for _, a := range left(r.node) {
		count[a.Job]++
	}
	surge = map[string]int{}
	for job, n := range count {
		ask := d.in.Jobs[job].Ask
		ask.Key, ask.Count = job, n+1
		asks = append(asks, ask)
		surge[job] = 1
	}
	slices.SortFunc(asks, func(a, b placement.Ask) int { return cmp.Compare(a.Key, b.Key) })
	return asks, surge
}

// openNodes is the nodes that Nomad places replicas on, with what waits placed.
func (s *shrinker) openNodes() *room {
	var nodes []*placement.Node
	for i, n := range s.packed.Nodes {
		if r := s.holders[i]; !n.Imagined && (r == nil || r.verdict != "remove") {
			nodes = append(nodes, n)
		}
	}
	open := newRoom(nodes)
	for i := range s.packed.Asks[:s.own] {
		open.board.Place(&s.packed.Asks[i], s.packed.Asks[i].Count)
	}
	return open
}
