package nodescale

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/placement"
)

// simJob is a Nomad job under way.
type simJob struct {
	SimJob
	id      string
	root    string      // id of its first version
	shape   int         // that the nodes of its group are to have
	groups  []*simGroup // that could hold a replica
	want    int         // replicas that are intended
	changed time.Duration
	count   int         // replicas that Nomad's job has
	slots   []*simAlloc // live allocations by index; nil: none, or it is stopping
	live    int
	serving int
	blocked int // s.freed when there was no room: none came free since if it is the same
	unmet   []time.Duration
}

// simAlloc is an allocation: of a job, or of somebody else's if that is nil.
type simAlloc struct {
	job      *simJob
	index    int
	node     *simNode
	place    int // in node.allocs
	serving  bool
	stopping bool
	since    time.Duration // serving
}

// simNode is a Nomad client node.
type simNode struct {
	*placement.Node
	group    *simGroup
	machine  *simMachine // nil: it was put there by hand
	allocs   []*simAlloc // as Node.Allocs
	of       map[*simJob]int
	free     placement.Resources
	gpus     []string // free instances
	born     time.Duration
	empty    time.Duration // since when it holds nothing, if it does not
	deadline time.Duration // of its drain
	dead     bool          // its machine is gone, whatever Nomad says
	outdated time.Duration // when its group's shape last changed
}

func (s *simulation) enterJobs() {
	for _, j := range s.in.Jobs {
		job := &simJob{SimJob: j, id: j.Ask.Job, root: j.Ask.Job, blocked: -1}
		job.Ask.Key = job.id
		s.holders(job)
		s.jobs = append(s.jobs, job)
		s.jobByID[job.id] = job
	}
	slices.SortStableFunc(s.jobs, func(a, b *simJob) int { return cmp.Compare(b.Ask.Priority, a.Ask.Priority) })
}

// holders finds the groups that could hold a replica of a job. One that could
// once still has nodes of that time.
func (s *simulation) holders(job *simJob) {
	for _, g := range s.groups {
		if canHold(g, job.Ask) && !slices.Contains(job.groups, g) {
			job.groups = append(job.groups, g)
		}
	}
}

// canHold says whether a group's nodes could hold a replica when they are empty.
func canHold(g *simGroup, ask placement.Ask) bool {
	n := g.shape
	n.ID = "empty"
	ask.Count = 1
	return len(placement.Pack(placement.Input{Nodes: []*placement.Node{&n}, Asks: []placement.Ask{ask}}).Placed) > 0
}

// demand sets how many replicas of a job there are to be.
func (s *simulation) demand(d SimDemand) {
	j := s.jobByID[d.Job]
	if j.want == d.Replicas {
		return
	}
	s.tell("job %s: %d -> %d replicas wanted", j.id, j.want, d.Replicas)
	for _, version := range s.jobs {
		if version == j || version.root == j.root && version.want > 0 {
			version.want, version.changed = d.Replicas, s.now
			s.needed(version, true)
		}
	}
	s.takeOver()
	s.touch()
	s.after(simReconcile, s.recount)
}

// recount gives Nomad's jobs the counts that are intended, with the replicas
// beside them while nodes drain.
func (s *simulation) recount() {
	surge := map[string]int{}
	for _, r := range s.state.Nodes {
		for job, n := range r.Surge {
			surge[job] += n
		}
	}
	for _, j := range s.jobs {
		count := j.want + surge[j.id]
		if count == j.count || s.waits(j) {
			continue
		}
		j.count = count
		serving := j.serving
		for i := len(j.slots) - 1; i >= 0 && j.live > count; i-- {
			if a := j.slots[i]; a != nil {
				s.stop(a)
			}
		}
		// Where machines are taken away, replicas are missing anyway; of fewer that
		// are wanted Nomad may stop those that serve; and no drain waits for ever.
		waited := s.watch.overdue > 0 && s.now-s.watch.overdue <= 5*s.in.Look
		if s.watch.lost == 0 && !waited && s.now-j.changed > 5*s.in.Look && serving >= j.want && j.serving < j.want {
			s.violate("the end of a drain leaves %d of %d replicas of job %s", j.serving, j.want, j.id)
		}
		j.blocked = -1
		s.schedule()
		s.touch()
	}
	s.drains()
}

// schedule has Nomad place what is queued, in a moment.
func (s *simulation) schedule() {
	if s.placing {
		return
	}
	s.placing = true
	s.after(simPlace, func() {
		s.placing = false
		for _, j := range s.jobs {
			s.place(j)
		}
	})
}

// place places the queued replicas of a job for which there is room.
func (s *simulation) place(j *simJob) {
	if j.live >= j.count || j.blocked == s.freed {
		return
	}
	for j.live < j.count {
		n := s.choose(j)
		if n == nil {
			j.blocked = s.freed
			break
		}
		s.begin(j, n)
	}
	s.touch()
}

// choose is the node that Nomad takes for a replica: of those that have the
// fewest of the job, if it is to be spread, the fullest.
func (s *simulation) choose(j *simJob) *simNode {
	var best *simNode
	bestOf, bestFree := 0, 0
	for _, g := range j.groups {
		for _, n := range g.nodes {
			if n.Closed != "" || !n.fits(j) {
				continue
			}
			of, free := 0, n.free.CPU*1000/max(1, n.Room.CPU)+n.free.MemoryMB*1000/max(1, n.Room.MemoryMB)
			if len(j.Ask.Spreads) > 0 {
				of = n.of[j]
			}
			if best == nil || of < bestOf || of == bestOf && free < bestFree {
				best, bestOf, bestFree = n, of, free
			}
		}
	}
	return best
}

// fits says whether there is room for one more replica. What the sum is made
// of is kept apart from placement's, as a second opinion.
func (n *simNode) fits(j *simJob) bool {
	uses := j.Ask.Uses
	return n.free.CPU >= uses.CPU && n.free.MemoryMB >= uses.MemoryMB &&
		(!n.DiskKnown || n.free.DiskMB >= uses.DiskMB) && len(n.gpus) >= gpusOf(j.Ask) &&
		(!j.Ask.DistinctHosts || n.of[j] == 0)
}

func gpusOf(a placement.Ask) int {
	count := 0
	for _, d := range a.Devices {
		count += d.Count
	}
	return count
}

// begin starts a replica on a node.
func (s *simulation) begin(j *simJob, n *simNode) {
	s.kept(j, n)
	a := &simAlloc{job: j, index: slices.Index(j.slots, nil)}
	if a.index < 0 {
		a.index = len(j.slots)
		j.slots = append(j.slots, nil)
	}
	j.slots[a.index] = a
	j.live++
	held := placement.Alloc{
		ID: fmt.Sprintf("%s[%d]@%d", j.id, a.index, s.number), Job: j.id, Namespace: j.Ask.Namespace, Group: j.Ask.TaskGroup,
		Index: a.index, Uses: j.Ask.Uses, Ours: true, Movable: true,
	}
	if want := gpusOf(j.Ask); want > 0 {
		held.Devices = map[string][]string{"nvidia/gpu/" + n.Devices[0].Name: slices.Clone(n.gpus[:want])}
		n.gpus = n.gpus[want:]
	}
	s.hold(n, a, held)
	s.after(s.some(j.Start), func() {
		if a.stopping || a.node.dead {
			return
		}
		a.serving, a.since = true, s.now
		j.serving++
		s.needed(j, false)
		s.takeOver()
		s.touch()
		s.after(simHealthy, s.drains)
	})
}

// hold puts an allocation on a node.
func (s *simulation) hold(n *simNode, a *simAlloc, held placement.Alloc) {
	a.node, a.place = n, len(n.allocs)
	n.allocs = append(n.allocs, a)
	n.Allocs = append(n.Allocs, held)
	n.free.CPU -= held.Uses.CPU
	n.free.MemoryMB -= held.Uses.MemoryMB
	n.free.DiskMB -= held.Uses.DiskMB
	if a.job != nil {
		n.of[a.job]++
	}
	s.watch.hold(n, held, 1)
}

// release takes an allocation off its node.
func (s *simulation) release(a *simAlloc) {
	n := a.node
	held, last := n.Allocs[a.place], len(n.allocs)-1
	n.allocs[a.place], n.Allocs[a.place] = n.allocs[last], n.Allocs[last]
	n.allocs[a.place].place = a.place
	n.allocs, n.Allocs = n.allocs[:last], n.Allocs[:last]
	n.free.CPU += held.Uses.CPU
	n.free.MemoryMB += held.Uses.MemoryMB
	n.free.DiskMB += held.Uses.DiskMB
	for _, instances := range held.Devices {
		n.gpus = append(n.gpus, instances...)
	}
	if a.job != nil {
		if n.of[a.job]--; n.of[a.job] == 0 {
			delete(n.of, a.job)
		}
	}
	if last == 0 {
		n.empty = s.now
	}
	s.watch.hold(n, held, -1)
	s.freed++
	s.schedule()
	s.touch()
}

// unserve takes an allocation out of its job: another is to take its place.
func (s *simulation) unserve(a *simAlloc) {
	j := a.job
	a.stopping = true
	if j == nil {
		return
	}
	j.slots[a.index] = nil
	j.live--
	if a.serving {
		a.serving = false
		j.serving--
		s.needed(j, false)
	}
}

// stop ends an allocation in good order.
func (s *simulation) stop(a *simAlloc) {
	if a.stopping {
		return
	}
	s.unserve(a)
	wait := time.Duration(0)
	if a.job != nil {
		wait = a.job.Stop
	}
	s.after(wait, func() {
		if !a.node.dead {
			s.release(a)
			s.drained(a.node)
		}
	})
	s.schedule()
}

// other places an allocation of somebody else.
func (s *simulation) other(o SimOther) {
	g := s.groupOf(o.Group)
	if g == nil {
		return
	}
	for _, i := range s.in.Chance.Perm(len(g.nodes)) {
		n := g.nodes[i]
		if n.Closed != "" || n.free.CPU < o.CPU || n.free.MemoryMB < o.MemoryMB {
			continue
		}
		a := &simAlloc{}
		s.hold(n, a, placement.Alloc{
			ID: fmt.Sprintf("other@%d", s.number), Job: "other", Group: "other", Movable: true,
			Uses: placement.Resources{CPU: o.CPU, MemoryMB: o.MemoryMB},
		})
		s.after(o.For, func() { s.stop(a) })
		s.touch()
		return
	}
}
