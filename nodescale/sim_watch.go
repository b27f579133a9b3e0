package nodescale

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// simNoDrain is simWatch.leastSpare while no drain has stopped a replica.
const simNoDrain = math.MaxInt

// SimResult is what came of a run.
type SimResult struct {
	Hours          float64    `json:"hours"`
	NodeHours      float64    `json:"node_hours"`       // from the call that made a machine until it was gone
	IdealNodeHours float64    `json:"ideal_node_hours"` // the least that any placement could do with, were nodes there at once
	Cost           float64    `json:"cost,omitempty"`
	WaitingSeconds float64    `json:"waiting_replica_seconds"` // replicas that are wanted and do not serve, over time
	Wait           SimWait    `json:"wait"`
	Launches       int        `json:"launches"`
	Failures       int        `json:"failed_launches"`        // of these, those that were given up
	Removals       int        `json:"removals"`               // of nodes that had joined, by decision
	Lost           int        `json:"lost"`                   // machines that were taken away
	Moved          int        `json:"moved_replicas"`         // by drains
	Forced         int        `json:"forced_replicas"`        // of these, those stopped by a drain's deadline
	MaxNodes       int        `json:"max_nodes"`              // machines at once
	EndNodes       int        `json:"end_nodes"`              // machines at the end
	EndWaiting     int        `json:"end_waiting"`            // replicas that do not serve at the end
	EndOutdated    int        `json:"end_outdated,omitempty"` // nodes of an earlier shape of their group at the end
	Use            float64    `json:"use"`                    // share of the machines that replicas hold, of what is scarcest, over time
	LeastSpare     int        `json:"least_spare"`            // replicas that serve beyond the target, at least, when a drain stopped one
	LastChange     float64    `json:"last_change_s"`          // when a node's phase last changed
	Decisions      int        `json:"decisions"`
	DecideMean     float64    `json:"decide_mean_s,omitempty"` // by the stopwatch
	DecideMax      float64    `json:"decide_max_s,omitempty"`
	Hopeless       []string   `json:"hopeless,omitempty"` // jobs of which no group's node could hold a replica
	Over           []SimPoint `json:"over,omitempty"`
	Broken         []string   `json:"broken,omitempty"` // promises that were broken, the first few
}

// SimWait is how long replicas waited from when they were wanted until they
// served, in seconds. Those wanted no more before they served are not counted.
type SimWait struct {
	Replicas int     `json:"replicas"`
	Mean     float64 `json:"mean_s"`
	P50      float64 `json:"p50_s"`
	P95      float64 `json:"p95_s"`
	Max      float64 `json:"max_s"`
}

// SimPoint is how things stand at a moment.
type SimPoint struct {
	At       float64 `json:"at"` // seconds
	Machines int     `json:"machines"`
	Wanted   int     `json:"wanted"` // replicas
	Serving  int     `json:"serving"`
	Use      float64 `json:"use"`
}

// simWatch adds up what happens.
type simWatch struct {
	result     SimResult
	machines   int
	price      float64 // of all machines, for an hour
	wanted     int     // replicas
	serving    int
	waiting    int
	ideal      float64 // nodes
	room, used simAmount
	useTime    float64 // machine-seconds in use
	waits      []time.Duration
	moved      int
	forced     int
	lost       int
	overdue    time.Duration // when the last drain ended that waited for its replicas as long as it may
	decisions  int
	deciding   time.Duration
	longest    time.Duration
	leastSpare int
	draining   []*simNode
	trouble    time.Duration // when a fault last began or ended
}

// simAmount is CPU, memory and GPUs.
type simAmount [3]float64

func (a *simAmount) add(b simAmount, times float64) {
	for i := range a {
		a[i] += times * b[i]
	}
}

// share is how much of b there is in a, of what is scarcest.
func (a simAmount) share(b simAmount) float64 {
	most := 0.0
	for i := range a {
		if b[i] > 0 {
			most = max(most, a[i]/b[i])
		}
	}
	return most
}

func amountOf(r placement.Resources, gpus int) simAmount {
	return simAmount{float64(r.CPU), float64(r.MemoryMB), float64(gpus)}
}

// pass lets time pass.
func (s *simulation) pass(to time.Duration) {
	w := &s.watch
	seconds := (to - s.now).Seconds()
	s.now = to
	if seconds <= 0 {
		return
	}
	w.result.NodeHours += seconds * float64(w.machines) / 3600
	w.result.Cost += seconds * w.price / 3600
	w.result.WaitingSeconds += seconds * float64(w.waiting)
	w.result.IdealNodeHours += seconds * w.ideal / 3600
	w.useTime += seconds * float64(w.machines) * w.used.share(w.room)
}

// machine counts machines that are paid for.
func (w *simWatch) machine(g *simGroup, count int) {
	g.up += count
	w.machines += count
	w.price += float64(count) * g.Spec.Price
	w.result.MaxNodes = max(w.result.MaxNodes, w.machines)
}

// joined counts the room of nodes that are there.
func (w *simWatch) joined(n *simNode, times float64) {
	count := 0
	if len(n.Devices) > 0 {
		count = len(n.Devices[0].Instances)
	}
	w.room.add(amountOf(n.Room, count), times)
}

// hold counts what allocations hold.
func (w *simWatch) hold(n *simNode, a placement.Alloc, times float64) {
	if n.dead {
		return
	}
	count := 0
	for _, instances := range a.Devices {
		count += len(instances)
	}
	w.used.add(amountOf(a.Uses, count), times)
}

func (w *simWatch) decided(took time.Duration) {
	w.deciding += took
	w.longest = max(w.longest, took)
}

func (w *simWatch) changed(now time.Duration, c raftstate.NodeChange) {
	w.result.LastChange = now.Seconds()
	switch {
	case c.To == raftstate.NodeLaunching:
		w.result.Launches++
	case c.Failed:
		w.result.Failures++
	case c.To == raftstate.NodeTerminating && c.From == raftstate.NodeDraining:
		w.result.Removals++
	}
}

// needed keeps count of the replicas that are wanted and do not serve: the one
// that is wanted longest is taken to be the next that serves.
func (s *simulation) needed(j *simJob, wanted bool) {
	w := &s.watch
	w.waiting -= len(j.unmet)
	for lack := max(0, j.want-j.serving); len(j.unmet) != lack; {
		switch {
		case len(j.unmet) < lack:
			j.unmet = append(j.unmet, s.now)
		case wanted:
			j.unmet = j.unmet[:len(j.unmet)-1]
		default:
			w.waits = append(w.waits, s.now-j.unmet[0])
			j.unmet = j.unmet[1:]
		}
	}
	w.waiting += len(j.unmet)
	w.wanted, w.serving = 0, 0
	for _, other := range s.jobs {
		w.wanted += other.want
		w.serving += other.serving
	}
	if wanted {
		w.ideal = s.ideal()
	}
}

// ideal is the least number of nodes that could hold all that is wanted, by the
// room alone; of several groups that could hold a job the largest nodes count.
func (s *simulation) ideal() float64 {
	uses := map[*simGroup]*simAmount{}
	for _, j := range s.jobs {
		var best *simGroup
		for _, g := range j.groups {
			if best == nil || g.shape.Room.CPU > best.shape.Room.CPU {
				best = g
			}
		}
		if best == nil {
			continue
		}
		if uses[best] == nil {
			uses[best] = &simAmount{}
		}
		uses[best].add(amountOf(j.Ask.Uses, gpusOf(j.Ask)), float64(j.want))
	}
	nodes := 0.0
	for g, amount := range uses {
		nodes += math.Ceil(amount.share(amountOf(g.shape.Room, g.Spec.Node.GPU)) - 1e-9)
	}
	return nodes
}

// sample keeps a point of the run.
func (s *simulation) sample() {
	w := &s.watch
	w.result.Over = append(w.result.Over, SimPoint{s.now.Seconds(), w.machines, w.wanted, w.serving, w.used.share(w.room)})
	s.after(s.in.Sample, s.sample)
}

// finish puts the result together.
func (s *simulation) finish() SimResult {
	w := &s.watch
	r := w.result
	r.Hours, r.EndNodes, r.EndWaiting, r.Decisions = s.now.Hours(), w.machines, w.waiting, w.decisions
	r.Moved, r.Forced, r.Lost = w.moved, w.forced, w.lost
	if w.leastSpare != simNoDrain {
		r.LeastSpare = w.leastSpare
	}
	if r.NodeHours > 0 {
		r.Use = w.useTime / 3600 / r.NodeHours
	}
	if w.decisions > 0 {
		r.DecideMean, r.DecideMax = w.deciding.Seconds()/float64(w.decisions), w.longest.Seconds()
	}
	for _, id := range sortedKeys(s.machines) {
		if m := s.machines[id]; s.state.Nodes[id] == nil && !m.ended && !m.going {
			s.violate("machine %s is there, and nobody knows of it", id)
		}
	}
	r.Broken = w.result.Broken
	for _, record := range s.state.Nodes {
		if s.ofEarlier(record) {
			r.EndOutdated++
		}
	}
	for _, j := range s.jobs {
		if len(j.groups) == 0 {
			r.Hopeless = append(r.Hopeless, j.id)
		}
	}
	slices.Sort(w.waits)
	r.Wait = waitsOf(w.waits)
	return r
}

func waitsOf(sorted []time.Duration) SimWait {
	if len(sorted) == 0 {
		return SimWait{}
	}
	sum := 0.0
	for _, wait := range sorted {
		sum += wait.Seconds()
	}
	at := func(share float64) float64 {
		return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)].Seconds()
	}
	return SimWait{len(sorted), sum / float64(len(sorted)), at(0.5), at(0.95), at(1)}
}

// violate notes a promise that was broken.
func (s *simulation) violate(format string, args ...any) {
	const enough = 20
	text := fmt.Sprintf("at %s: ", s.now) + fmt.Sprintf(format, args...)
	s.tell("BROKEN: %s", text)
	if len(s.watch.result.Broken) < enough {
		s.watch.result.Broken = append(s.watch.result.Broken, text)
	}
}
