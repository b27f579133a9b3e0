package nomadjobs

import (
	"cmp"
	"context"
	"fmt"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Filters of Nomad's lists, evaluated there: a shared cluster's other work
// does not travel.
const (
	oursByJobID   = `JobID matches "^` + jobspec.JobPrefix + `"`
	blockedOfOurs = `Status == "` + api.EvalStatusBlocked + `" and ` + oursByJobID
)

// Observe looks at everything in Nomad that serve-nomad made, whichever
// serve-nomad cluster that was, and with nodes also at every node, all that runs
// there, and the node pools. It is whole or an error: a call that went wrong, or
// that the token does not allow, never reads as "nothing there".
//
// Nodes are looked at first, then allocations, then jobs. A replica that Nomad
// places meanwhile is then seen on its node, or waiting, but never both: what
// waits is told last, and held against the allocations that were seen.
func (c *Client) Observe(ctx context.Context, nodes bool) (reconcile.Observation, error) {
	var g ground
	var stubs []*api.JobListStub
	err := c.lookAtGround(ctx, nodes, &g)
	if err == nil {
		stubs, err = c.listJobs(ctx)
	}
	var jobs map[string]seenJob
	if err == nil {
		jobs, err = c.wholeJobs(ctx, stubs)
	}
	if err != nil {
		return reconcile.Observation{}, err
	}
	seen := reconcile.Observation{Jobs: make(map[string]reconcile.Job, len(jobs)), CoreMHz: g.coreMHz}
	alive := g.alive(jobs)
	short := false
	for _, stub := range stubs {
		job, there := jobs[stub.ID]
		if !there {
			continue
		}
		if job.service && !job.Stopped && stub.JobSummary != nil {
			job.Unplaced = unplaced(stub.JobSummary.Summary[job.group()].Queued, job.Count, alive[job.ID])
		}
		seen.Jobs[job.ID] = job.Job
		short = short || job.Unplaced > 0
	}
	if short {
		if err := c.explainShortage(ctx, seen.Jobs); err != nil {
			return reconcile.Observation{}, err
		}
	}
	for _, alloc := range g.replicas {
		if _, ours := seen.Jobs[alloc.JobID]; ours {
			seen.Replicas = append(seen.Replicas, replica(alloc))
		}
	}
	if nodes {
		seen.NodesKnown, seen.Nodes, seen.Pools = true, g.settle(jobs), g.pools
	}
	c.remember(jobs, g.coreMHz)
	return seen, nil
}

// unplaced is how many replicas of a job have no node. Queued is what Nomad's
// scheduler last left over, and lags behind: it may still hold what was placed
// since, or what no longer is asked for. So no more count than the job asks for
// beyond those that were seen alive.
func unplaced(queued, count, alive int) int { return max(0, min(queued, count-alive)) }

// ground is what a look begins with: all but the jobs.
type ground struct {
	coreMHz  map[string]int // by node pool
	replicas []*api.AllocationListStub

	whole bool // the rest was looked at
	nodes []seenNode
	pools map[string]bool
	held  []heldRoom
}

func (c *Client) lookAtGround(ctx context.Context, nodes bool, g *ground) error {
	listReplicas := func(ctx context.Context) (err error) {
		g.replicas, err = c.listAllocs(ctx)
		return err
	}
	if !nodes {
		return atOnce(ctx, listReplicas, func(ctx context.Context) error {
			list, err := c.listNodes(ctx)
			g.coreMHz = coreMHz(list)
			return err
		})
	}
	g.whole = true
	err := atOnce(ctx, c.seesAll, func(ctx context.Context) (err error) {
		g.nodes, err = c.lookAtNodes(ctx)
		return err
	}, func(ctx context.Context) (err error) {
		g.pools, err = c.lookAtPools(ctx)
		return err
	})
	if err != nil {
		return err
	}
	var speeds []nodeSpeed
	for _, n := range g.nodes {
		speeds = append(speeds, nodeSpeed{n.node.Said.Status, n.node.Pool, n.coreMHz})
	}
	g.coreMHz = slowest(speeds)
	return atOnce(ctx, listReplicas, func(ctx context.Context) (err error) {
		g.held, err = c.listHeld(ctx)
		return err
	})
}

// alive counts the allocations of each job that stand for one of its replicas.
func (g *ground) alive(jobs map[string]seenJob) map[string]int {
	n := map[string]int{}
	if !g.whole {
		for _, a := range g.replicas {
			if alive(a.DesiredStatus, a.ClientStatus) {
				n[a.JobID]++
			}
		}
		return n
	}
	for i := range g.held {
		if a := &g.held[i]; a.alive && jobs[a.alloc.Job].namespace == a.alloc.Namespace {
			n[a.alloc.Job]++
		}
	}
	return n
}

// settle returns the nodes with what they hold.
func (g *ground) settle(jobs map[string]seenJob) []*placement.Node {
	nodes := make([]*placement.Node, len(g.nodes))
	byID := make(map[string]*placement.Node, len(g.nodes))
	for i, n := range g.nodes {
		node := n.node
		nodes[i], byID[node.ID] = &node, &node
	}
	for i := range g.held {
		node, alloc := byID[g.held[i].nodeID], g.held[i].alloc
		if node == nil { // it joined since the nodes were listed
			continue
		}
		job, ours := jobs[alloc.Job]
		alloc.Ours = ours && job.namespace == alloc.Namespace
		node.Allocs = append(node.Allocs, alloc)
	}
	for i, n := range g.nodes {
		if most := n.mostAllocs; most > 0 && len(nodes[i].Allocs) >= most && nodes[i].Closed == "" {
			nodes[i].Closed = fmt.Sprintf("full: it takes %d allocations", most)
		}
	}
	return nodes
}

// listJobs lists the jobs that carry our meta.
func (c *Client) listJobs(ctx context.Context) ([]*api.JobListStub, error) {
	q, cancel := query(ctx)
	defer cancel()
	q.Prefix = jobspec.JobPrefix
	all, _, err := c.nomad.Jobs().ListOptions(&api.JobListOptions{Fields: &api.JobListFields{Meta: true}}, q)
	if err != nil {
		return nil, c.fault("list Nomad's jobs", err)
	}
	var ours []*api.JobListStub
	for _, stub := range all {
		if _, ok := jobspec.ReadMeta(stub.Meta); ok {
			ours = append(ours, stub)
		}
	}
	return ours, nil
}

// seenJob is a job as last read.
type seenJob struct {
	reconcile.Job
	namespace string
	pool      string // node pool
	service   bool   // it has a count of replicas, rather than one for each node
}

func (j seenJob) group() string { return cmp.Or(j.Deployment, j.Check) }

// wholeJobs returns what the jobs of stubs say of themselves, by id, reading
// those that changed since the last look.
func (c *Client) wholeJobs(ctx context.Context, stubs []*api.JobListStub) (map[string]seenJob, error) {
	listed := make(map[string]uint64, len(stubs))
	for _, stub := range stubs {
		listed[stub.ID] = stub.JobModifyIndex
	}
	return c.jobs.read(ctx, listed, c.readJob)
}

func (c *Client) readJob(ctx context.Context, id string) (seenJob, uint64, error) {
	whole, err := c.job(ctx, id)
	if err != nil {
		return seenJob{}, 0, err
	}
	job, ours := observed(whole)
	if !ours {
		return seenJob{}, 0, fmt.Errorf("read job %s: %w: it is no longer serve-nomad's", id, ErrNotFound)
	}
	ask, err := AskOf(whole)
	if err != nil {
		c.log.Warn("no node is made for a job whose replicas ask for what cannot be weighed", "error", err)
	} else {
		job.Ask = &ask
	}
	seen := seenJob{Job: job, namespace: value(whole.Namespace), pool: cmp.Or(value(whole.NodePool), api.NodePoolDefault), service: value(whole.Type) != jobTypeSysbatch}
	return seen, job.ModifyIndex, nil
}

// job fetches one whole job. Its JobModifyIndex is never nil.
func (c *Client) job(ctx context.Context, id string) (*api.Job, error) {
	q, cancel := query(ctx)
	defer cancel()
	job, _, err := c.nomad.Jobs().Info(id, q)
	if err != nil {
		return nil, c.fault("read job "+id, err)
	}
	if job.ID == nil || job.JobModifyIndex == nil {
		return nil, fmt.Errorf("read job %s: nomad at %s answered with something else than a job", id, c.address)
	}
	return job, nil
}

func (c *Client) listAllocs(ctx context.Context) ([]*api.AllocationListStub, error) {
	q, cancel := query(ctx)
	defer cancel()
	q.Filter = oursByJobID
	allocs, _, err := c.nomad.Allocations().List(q)
	if err != nil {
		return nil, c.fault("list Nomad's allocations", err)
	}
	return allocs, nil
}

func (c *Client) listNodes(ctx context.Context) ([]*api.NodeListStub, error) {
	q, cancel := query(ctx)
	defer cancel()
	q.Params = map[string]string{"resources": "true"}
	q.Filter = `Status == "` + api.NodeStatusReady + `"`
	nodes, _, err := c.nomad.Nodes().List(q)
	if err != nil {
		return nil, c.fault("list Nomad's nodes", err)
	}
	return nodes, nil
}

// explainShortage fills in why the jobs that lack replicas lack them. Nomad
// keeps one blocked evaluation per job for that.
func (c *Client) explainShortage(ctx context.Context, jobs map[string]reconcile.Job) error {
	q, cancel := query(ctx)
	defer cancel()
	q.Filter = blockedOfOurs
	evals, _, err := c.nomad.Evaluations().List(q)
	if err != nil {
		return c.fault("list Nomad's blocked evaluations", err)
	}
	for _, eval := range evals {
		job, ours := jobs[eval.JobID]
		if !ours || job.Unplaced == 0 {
			continue
		}
		if metric := eval.FailedTGAllocs[cmp.Or(job.Deployment, job.Check)]; metric != nil {
			job.Blocked = explain(metric)
			jobs[job.ID] = job
		}
	}
	return nil
}
