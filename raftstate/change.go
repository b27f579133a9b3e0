package raftstate

import (
	"maps"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// ByNodeAutoscaler is who Event names for what a ChangeNodes did.
const ByNodeAutoscaler = "node-autoscaler"

// changeNodes makes those of the changes that can be made. None is no error:
// the node autoscaler sees what came of them and decides again.
func (s *State) changeNodes(c Command, cmd *ChangeNodes) *Refusal {
	c.By = ByNodeAutoscaler
	book := nodeBook{at: c.At, nodes: cloned(s.Nodes), groups: cloned(s.WorkerGroups), held: map[string]int{}}
	for _, node := range s.Nodes {
		if book.counts(node) {
			book.held[node.Group]++
		}
	}
	var events []Event
	for _, change := range cmd.Changes {
		change.Reason = clip(change.Reason, maxNodeReason)
		if book.make(change) {
			events = append(events, s.nodeEvent(c, change))
		}
	}
	if len(events) > 0 {
		s.Nodes, s.WorkerGroups = book.nodes, book.groups
		s.addEvents(events...)
	}
	for _, change := range cmd.Changes {
		if change.To == "" {
			s.prune(change.Group)
		}
	}
	return nil
}

// nodeBook is the nodes and groups of a State while one command changes them.
// The maps are its own, what they point to is not.
type nodeBook struct {
	at     time.Time
	nodes  map[string]*Node
	groups map[string]*WorkerGroup
	held   map[string]int // group -> nodes that count towards max_nodes: those of its present shape
}

// make makes one change, and says whether it could be made.
func (b *nodeBook) make(change NodeChange) bool {
	group := b.groups[change.Group]
	if group == nil || !change.From.precedes(change.To) || !change.bounded() {
		return false
	}
	copied := *group
	if change.From == "" {
		if !b.mayLaunch(group, change.ID) {
			return false
		}
		b.nodes[change.ID] = &Node{
			ID: change.ID, Group: change.Group, Shape: group.Shape, Phase: NodeLaunching, Reason: change.Reason,
			At: b.at, PhaseAt: b.at, Instance: change.Instance,
		}
		copied.Usage.Launched++
		b.held[change.Group]++
	} else {
		old := b.nodes[change.ID]
		if old == nil || old.Group != change.Group || old.Phase != change.From || change.To == NodeRetiring && !group.Outdated(old) {
			return false
		}
		b.move(*old, change, &copied)
	}
	b.groups[change.Group] = &copied
	return true
}

// mayLaunch says whether a group may get a node of a new id. Apply knows no
// clock, so the largest max_nodes that a schedule may set is what it holds to.
func (b *nodeBook) mayLaunch(group *WorkerGroup, id string) bool {
	return b.nodes[id] == nil && !group.Deleting && b.held[group.Name] < mostNodes(group.Spec)
}

// move brings a node, and what its group keeps count of, to another phase.
func (b *nodeBook) move(node Node, change NodeChange, group *WorkerGroup) {
	if b.counts(&node) && !change.To.held() {
		b.held[node.Group]--
	}
	if change.To == "" {
		group.Usage.gone(node, b.at)
		delete(b.nodes, node.ID)
		return
	}
	node.Phase, node.Reason, node.PhaseAt, node.Surge = change.To, change.Reason, b.at, nil
	if change.NomadID != "" {
		node.NomadID = change.NomadID
	}
	if change.Instance != "" {
		node.Instance = change.Instance
	}
	switch {
	case change.To == NodeDraining && len(change.Surge) > 0:
		node.Surge = maps.Clone(change.Surge)
	case change.From == NodeLaunching && change.To == NodeReady:
		node.JoinedAt = b.at
		group.Failures = Failures{}
		started := max(0, b.at.Sub(node.At))
		group.Usage.Starts = appendBounded(group.Usage.Starts, int(started.Milliseconds()), maxStarts)
	case change.launchFailed():
		group.Failures.add(node.At, b.at, change.Reason)
		group.Usage.Failed++
	}
	b.nodes[node.ID] = &node
}

// add enters the failure of a launch. Launches that were ordered before the last
// one failed are of one try with it: many that fail together say no more than one.
func (f *Failures) add(ordered, at time.Time, reason string) {
	if f.Count == 0 || !ordered.Before(f.LastAt) {
		f.Count++
	}
	f.LastAt, f.Reason = at, reason
}

func (u *Usage) gone(node Node, at time.Time) {
	u.Seconds += max(0, at.Sub(node.At)).Seconds()
	if !node.JoinedAt.IsZero() {
		u.Removed++
	}
}

// launchFailed says whether the change gives up a node that never joined.
func (change NodeChange) launchFailed() bool {
	return change.Failed && change.From == NodeLaunching && change.To == NodeTerminating
}

// bounded says whether the change is of a size that a State can hold.
func (change NodeChange) bounded() bool {
	if change.ID == "" || len(change.ID) > maxNodeName || len(change.NomadID) > maxNodeName || len(change.Instance) > maxInstance {
		return false
	}
	if len(change.Surge) > maxSurgeJobs {
		return false
	}
	for job, n := range change.Surge {
		if job == "" || len(job) > maxNodeName || n < 1 || n > maxSurge {
			return false
		}
	}
	return true
}

// counts says whether a node counts towards its group's max_nodes.
func (b *nodeBook) counts(node *Node) bool {
	group := b.groups[node.Group]
	return node.Phase.held() && group != nil && !group.Outdated(node)
}

// held says whether a node in this phase is there, or about to be, and not on
// its end.
func (p NodePhase) held() bool {
	return p == NodeLaunching || p == NodeReady || p == NodeRetiring || p == NodeDraining || p == NodeReturning
}

// precedes says whether a node may go from p to the next phase; "" is before
// its order and after its end.
func (p NodePhase) precedes(next NodePhase) bool {
	switch p {
	case "":
		return next == NodeLaunching
	case NodeLaunching:
		return next == NodeReady || next == NodeTerminating
	case NodeReturning:
		return next == NodeReady || next == NodeRetiring || next == NodeTerminating
	case NodeReady:
		return next == NodeRetiring || next == NodeDraining || next == NodeTerminating
	case NodeRetiring:
		return next == NodeReturning || next == NodeDraining || next == NodeTerminating
	case NodeDraining:
		return next == NodeReturning || next == NodeTerminating
	case NodeTerminating:
		return next == ""
	default:
		return false
	}
}

// mostNodes returns the most nodes that a group can have at any time, whatever
// its schedules say by then.
func mostNodes(group *appspec.WorkerGroup) int {
	most := group.MaxNodes
	for _, schedule := range group.Schedules {
		if schedule.MaxNodes != nil {
			most = max(most, *schedule.MaxNodes)
		}
	}
	return most
}

// nodeEvent says a change that was made for the list of events.
func (s *State) nodeEvent(c Command, change NodeChange) Event {
	kind := "node-" + string(change.To)
	switch {
	case change.To == "":
		kind = "node-gone"
	case change.To == NodeReturning:
		kind = "node-kept"
	case change.launchFailed():
		kind = eventLaunchFailed
	}
	e := s.newEvent(c, kind, "", "", change.Reason)
	e.WorkerGroup, e.Node = change.Group, change.ID
	return e
}

const eventLaunchFailed = "launch-failed"

// ofNodes says whether events of a type tell of single nodes.
func ofNodes(kind string) bool {
	return strings.HasPrefix(kind, "node-") || kind == eventLaunchFailed
}
