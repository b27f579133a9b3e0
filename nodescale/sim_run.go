package nodescale

import (
	minheap "container/heap"
	"fmt"
	"maps"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// simulation is a run under way.
type simulation struct {
	in     SimInput
	now    time.Duration // since the start
	skew   time.Duration // that the clock is wrong by
	events simEvents
	number int // of the events so far

	groups   []*simGroup
	jobs     []*simJob // the most important first
	jobByID  map[string]*simJob
	nodes    []*placement.Node   // all of Nomad's, as Decide sees them
	nodeByID map[string]*simNode // Nomad node id ->
	machines map[string]*simMachine
	freed    int  // counts how often room came free
	placing  bool // Nomad is about to place what is queued

	// What the servers have.
	state  *raftstate.State
	leader simLeader
	holds  int // faults under way
	blinds int

	watch simWatch
}

// simLeader is what a server has in memory while it leads.
type simLeader struct {
	term      int
	memory    Memory
	calls     map[string]*simCall
	acts      map[string]time.Duration
	lists     map[string]Listed
	listAt    map[string]time.Duration
	busy      bool // a decision is being made or is about to be
	dirty     bool // something changed since it was begun
	decisions int
}

func newLeader(term int) simLeader {
	return simLeader{
		term: term, calls: map[string]*simCall{}, acts: map[string]time.Duration{},
		lists: map[string]Listed{}, listAt: map[string]time.Duration{},
	}
}

func newSimulation(in SimInput) (*simulation, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if in.Look <= 0 {
		in.Look = simLook
	}
	s := &simulation{
		in: in, jobByID: map[string]*simJob{}, nodeByID: map[string]*simNode{}, machines: map[string]*simMachine{},
		state: &raftstate.State{}, leader: newLeader(1),
	}
	s.watch.leastSpare = simNoDrain
	deploy := &raftstate.Deploy{}
	for _, g := range in.Groups {
		s.groups = append(s.groups, newSimGroup(g))
		deploy.WorkerGroups = append(deploy.WorkerGroups, raftstate.DeployWorkerGroup{Spec: g.Spec})
	}
	if result := s.propose(raftstate.Command{Deploy: deploy}); result.Error != "" {
		return nil, fmt.Errorf("worker groups: %s", result.Error)
	}
	s.enterJobs()
	for _, g := range s.groups {
		for i := range g.ByHand {
			s.join(g, nil, fmt.Sprintf("hand-%s-%d", g.Spec.Name, i))
		}
	}
	s.plan()
	return s, nil
}

// plan enters all that is known to happen.
func (s *simulation) plan() {
	for _, d := range s.in.Demand {
		s.at(d.At, func() { s.demand(d) })
	}
	for _, f := range s.in.Faults {
		s.at(f.At, func() { s.fault(f) })
	}
	for _, o := range s.in.Others {
		s.at(o.At, func() { s.other(o) })
	}
	for _, c := range s.in.People {
		s.at(c.At, func() { s.command(c.Command) })
	}
	if s.in.Sample > 0 {
		s.at(0, s.sample)
	}
	s.at(0, s.touch)
}

// simEvent is something that happens at a moment.
type simEvent struct {
	at     time.Duration
	number int // of events at one moment the first entered comes first
	do     func()
}

// simEvents is a heap of what is to happen.
type simEvents []simEvent

// Len is for heap.Interface.
func (e simEvents) Len() int { return len(e) }

// Less is for heap.Interface.
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}

// Swap is for heap.Interface.
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push is for heap.Interface.
func (e *simEvents) Push(x any) {
	if event, ok := x.(simEvent); ok {
		*e = append(*e, event)
	}
}

// Pop is for heap.Interface.
func (e *simEvents) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = simEvent{}
	*e = (*e)[:len(*e)-1]
	return last
}

func (e *simEvents) pop() simEvent {
	event, _ := minheap.Pop(e).(simEvent)
	return event
}

func (s *simulation) at(at time.Duration, do func()) {
	s.number++
	minheap.Push(&s.events, simEvent{max(at, s.now), s.number, do})
}

func (s *simulation) after(wait time.Duration, do func()) { s.at(s.now+wait, do) }

// clock is what the servers take the time to be.
func (s *simulation) clock() time.Time { return s.in.Start.Add(s.now + s.skew) }

func (s *simulation) tell(format string, args ...any) {
	if s.in.Tell != nil {
		s.in.Tell(s.now, fmt.Sprintf(format, args...))
	}
}

// some draws a delay.
func (s *simulation) some(d SimDelay) time.Duration {
	if d.Spread <= 0 {
		return max(0, d.Mean)
	}
	return max(0, d.Mean-d.Spread+time.Duration(s.in.Chance.Float64()*2*float64(d.Spread)))
}

func (s *simulation) propose(c raftstate.Command) raftstate.Result {
	c.V, c.At = raftstate.CommandVersion, s.clock()
	next, result := s.state.Apply(s.state.Index+1, c)
	s.state = next
	return result
}

// fault makes something go wrong.
func (s *simulation) fault(f SimFault) {
	s.tell("fault: %s", f.Kind)
	s.watch.trouble = s.now
	over := func(count *int) {
		*count++
		s.after(f.For, func() { *count--; s.watch.trouble = s.now; s.touch() })
	}
	switch f.Kind {
	case SimLeader:
		s.leader = newLeader(s.leader.term + 1)
		for _, g := range s.groups {
			g.calling, g.turns = 0, nil
		}
	case SimHold:
		over(&s.holds)
	case SimBlind:
		over(&s.blinds)
	case SimClock:
		s.skew += f.Jump
	}
	s.touch()
}

// simGroup is a worker group under way.
type simGroup struct {
	SimGroup
	nodes   []*simNode // in Nomad
	up      int        // machines that are paid for
	shape   placement.Node
	calling int // calls of the target that have their turn
	turns   []func()
}

func newSimGroup(g SimGroup) *simGroup {
	if g.CoreMHz <= 0 {
		g.CoreMHz = 1000
	}
	shape := g.Spec.Node
	n := placement.Node{
		Pool: g.Spec.NodePool, Datacenter: shape.Datacenter, Class: shape.Class,
		Attributes: map[string]string{"kernel.name": "linux"}, Meta: map[string]string{},
		Room:      placement.Resources{CPU: int(shape.CPU * float64(g.CoreMHz)), MemoryMB: shape.MemoryMB, DiskMB: shape.DiskMB},
		DiskKnown: shape.DiskMB > 0,
	}
	maps.Copy(n.Attributes, shape.Attributes)
	maps.Copy(n.Meta, g.Spec.Labels)
	if shape.GPU > 0 {
		n.Devices = []placement.Device{gpus(shape.GPU, shape.GPUModel, shape.GPUMemoryMB)}
	}
	return &simGroup{SimGroup: g, shape: n}
}

// groupOf returns the group of a spec.
func (s *simulation) groupOf(name string) *simGroup {
	for _, g := range s.groups {
		if g.Spec.Name == name {
			return g
		}
	}
	return nil
}

// specOf is a group as the State has it by now.
func (s *simulation) specOf(g *simGroup) *appspec.WorkerGroup {
	return s.state.WorkerGroups[g.Spec.Name].Spec
}
