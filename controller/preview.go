package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// ErrWorldUnknown says that Nomad or Consul has not been seen, so that what a
// deploy would do cannot be told.
var ErrWorldUnknown = errors.New("nomad and consul have not been seen yet")

// AskOf says what one replica of a job would ask for. An error is of a job that
// cannot be weighed.
type AskOf func(*api.Job) (placement.Ask, error)

// Preview returns the steps that a command would lead to.
func (c *Controller) Preview(command raftstate.Command) ([]reconcile.Step, error) {
	view, err := c.known()
	if err != nil {
		return nil, err
	}
	return reconcile.Preview(view.State, view.World, c.cfg.Now(), c.cfg.Settings, command)
}

// known returns the newest View if both Nomad and Consul are known in it.
func (c *Controller) known() (*View, error) {
	view := c.view.current()
	switch {
	case view.World == nil:
		return nil, ErrWorldUnknown
	case !view.World.NomadKnown || !view.World.ConsulKnown:
		return nil, fmt.Errorf("%w: %s%s", ErrWorldUnknown, view.World.NomadError, view.World.ConsulError)
	}
	return view, nil
}

// Room says where the replicas would run that the steps of a command start: at
// the moment when there are the most of them, and in the end. The doubts are what
// Nomad itself says of jobs that would fit by what is known here.
func (c *Controller) Room(ctx context.Context, command raftstate.Command, steps []reconcile.Step) (outlook nodescale.Outlook, doubts []string, err error) {
	view, err := c.known()
	if err != nil {
		return outlook, nil, err
	}
	next, result := view.State.Apply(view.State.Index+1, command)
	if err := result.Err(); err != nil {
		return outlook, nil, err
	}
	world, err := c.withNodes(ctx, view.World)
	if err != nil {
		return outlook, nil, fmt.Errorf("look at Nomad's nodes: %w", err)
	}
	p := prospect{
		counts: reconcile.JobCounts(world, steps), jobs: registered(steps), asks: map[string]placement.Ask{},
		input: c.noder.input(&View{State: next, World: world}, c.cfg.Now(), c.cfg.Now()),
	}
	p.input.DryRun = p.input.DryRun || c.cfg.Machines == nil
	p.learn(world, c.cfg.AskOf)
	outlook = p.outlook()
	outlook.Short = append(outlook.Short, c.jobless(next, world, command, p.jobs)...)
	return outlook, c.doubts(ctx, world, steps, p, outlook), nil
}

// jobless is the replicas of those deployments for which no job can be made now.
func (c *Controller) jobless(next *raftstate.State, world *reconcile.World, command raftstate.Command, made map[string]*api.Job) []nodescale.ShortOutlook {
	var list []nodescale.ShortOutlook
	for _, name := range command.Versioned() {
		spec := next.Applications[name].Wanted.Spec
		status, _ := reconcile.Summarise(next, world, c.cfg.Now(), c.cfg.Settings, name)
		for _, d := range status.Deployments {
			if _, exists := world.Jobs[d.JobID]; !d.Wanted || exists || made[d.JobID] != nil || d.Reason == "" {
				continue
			}
			pool := jobspec.NodePool(spec.Deployment(d.Name), nil, c.cfg.Settings.Placement)
			list = append(list, nodescale.ShortOutlook{
				Job: d.JobID, Application: name, Deployment: d.Name, Count: max(1, d.Target), Reason: d.Reason,
				Never: !hasPool(world, &pool) && spec.Deployment(d.Name).WorkerGroup == "",
			})
		}
	}
	return list
}

// withNodes is a world with its nodes, which are not looked at all the time.
func (c *Controller) withNodes(ctx context.Context, world *reconcile.World) (*reconcile.World, error) {
	if world.NodesKnown {
		return world, nil
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.ObserveLimit)
	defer cancel()
	seen, err := c.cfg.Jobs.Observe(limited, true)
	if err != nil {
		return nil, err
	}
	w := *world
	w.NodesKnown, w.Nodes, w.Pools, w.Jobs = seen.NodesKnown, seen.Nodes, seen.Pools, seen.Jobs
	return &w, nil
}

// registered returns the jobs that steps make, by id.
func registered(steps []reconcile.Step) map[string]*api.Job {
	jobs := map[string]*api.Job{}
	for _, s := range steps {
		if s.Register != nil {
			jobs[*s.Register.Job.ID] = s.Register.Job
		}
	}
	return jobs
}

// prospect is what is known of replicas that a command would start.
type prospect struct {
	counts []reconcile.JobCount
	jobs   map[string]*api.Job      // those that are made, by id
	asks   map[string]placement.Ask // what one replica asks for, by job; without those that cannot be weighed
	input  nodescale.Input          // as if the command had been recorded
}

// learn finds out what the replicas ask for.
func (p *prospect) learn(world *reconcile.World, askOf AskOf) {
	for _, count := range p.counts {
		ask := world.Jobs[count.Job].Ask
		if job := p.jobs[count.Job]; job != nil && askOf != nil {
			made, err := askOf(job)
			if err != nil {
				continue // Nomad itself is asked
			}
			ask = &made
		}
		if ask == nil {
			continue
		}
		p.asks[count.Job] = *ask
		p.input.Jobs[count.Job] = nodescale.Job{Application: count.Application, Deployment: count.Deployment, Ask: *ask}
	}
}

// outlook is where the replicas would run: it must be well at the peak, and in
// the end, when other replicas may have come in the place of those that went.
func (p *prospect) outlook() nodescale.Outlook {
	peak := nodescale.Foresee(p.input, p.more(func(c reconcile.JobCount) int { return c.Peak - c.Now }))
	in := p.input
	in.Nodes = without(in.Nodes, p.counts)
	return peak.Or(nodescale.Foresee(in, p.more(func(c reconcile.JobCount) int { return c.Then - c.Now })))
}

// more lists what is asked for beside what there is.
func (p *prospect) more(count func(reconcile.JobCount) int) []placement.Ask {
	var list []placement.Ask
	for _, c := range p.counts {
		if ask, known := p.asks[c.Job]; known && count(c) > 0 {
			ask.Key, ask.Job, ask.Count = "deploy of "+c.Job, c.Job, count(c)
			list = append(list, ask)
		}
	}
	return list
}

// without is nodes on which the replicas that go in the end no longer run.
func without(nodes []*placement.Node, counts []reconcile.JobCount) []*placement.Node {
	gone := map[string]int{}
	for _, c := range counts {
		gone[c.Job] = max(0, c.Now-c.Then)
	}
	left := make([]*placement.Node, len(nodes))
	for i, n := range nodes {
		copied := *n
		copied.Allocs = slices.DeleteFunc(slices.Clone(n.Allocs), func(a placement.Alloc) bool {
			gone[a.Job]--
			return a.Ours && gone[a.Job] >= 0
		})
		left[i] = &copied
	}
	return left
}

// doubts asks Nomad about each job that is to be made, which knows rules that
// are not known here. What is known to lack room, or to wait for a node, it
// cannot say more of.
func (c *Controller) doubts(ctx context.Context, world *reconcile.World, steps []reconcile.Step, p prospect, o nodescale.Outlook) []string {
	told := map[string]bool{}
	maps.Copy(told, o.Coming)
	for _, s := range o.Short {
		told[s.Job] = true
	}
	made := map[string]bool{} // node pools that are about to be made: Nomad refuses to plan for these
	for _, s := range steps {
		if s.WritePool != nil {
			made[s.WritePool.Name] = true
		}
	}
	var list []string
	for _, id := range slices.Sorted(maps.Keys(p.jobs)) {
		job := p.jobs[id]
		if pool := job.NodePool; told[id] || !hasPool(world, pool) || pool != nil && made[*pool] {
			continue
		}
		problem, err := c.cfg.Jobs.Plan(ctx, atMost(job, p.counts))
		switch {
		case err != nil:
			list = append(list, fmt.Sprintf("job %s: Nomad does not say whether it fits: %s", id, err))
		case problem != "":
			list = append(list, fmt.Sprintf("no room now for all of job %s, says Nomad: %s", id, problem))
		}
	}
	return list
}

// atMost is a job with as many replicas as it ever has.
func atMost(job *api.Job, counts []reconcile.JobCount) *api.Job {
	i := slices.IndexFunc(counts, func(c reconcile.JobCount) bool { return c.Job == *job.ID })
	if i < 0 || len(job.TaskGroups) != 1 {
		return job
	}
	whole, group := *job, *job.TaskGroups[0]
	group.Count = new(max(counts[i].Peak, counts[i].Then))
	whole.TaskGroups = []*api.TaskGroup{&group}
	return &whole
}

// hasPool says whether Nomad has a node pool, as far as is known. Its own are
// always there.
func hasPool(world *reconcile.World, pool *string) bool {
	return pool == nil || !world.NodesKnown || *pool == "" || *pool == api.NodePoolAll || *pool == api.NodePoolDefault || world.Pools[*pool]
}
