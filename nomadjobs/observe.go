package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Filters of Nomad's lists, evaluated there: a shared cluster's other work
// does not travel.
const (
	oursByJobID   = `JobID matches "^` + jobspec.JobPrefix + `"`
	blockedOfOurs = `Status == "` + api.EvalStatusBlocked + `" and ` + oursByJobID
)

// Observe looks at everything in Nomad that serve-nomad made, whichever
// serve-nomad cluster that was. It is whole or an error: a call that went
// wrong never reads as "nothing there".
func (c *Client) Observe(ctx context.Context) (reconcile.Observation, error) {
	stubs, err := c.listJobs(ctx)
	if err != nil {
		return reconcile.Observation{}, err
	}
	jobs, err := c.wholeJobs(ctx, stubs)
	if err != nil {
		return reconcile.Observation{}, err
	}
	allocs, err := c.listAllocs(ctx)
	if err != nil {
		return reconcile.Observation{}, err
	}
	nodes, err := c.listNodes(ctx)
	if err != nil {
		return reconcile.Observation{}, err
	}
	seen := reconcile.Observation{Jobs: map[string]reconcile.Job{}, CoreMHz: coreMHz(nodes)}
	short := false
	for _, stub := range stubs {
		job, there := jobs[stub.ID]
		if !there {
			continue
		}
		if !job.Stopped && stub.JobSummary != nil {
			job.Unplaced = stub.JobSummary.Summary[job.Deployment].Queued
		}
		seen.Jobs[job.ID] = job
		short = short || job.Unplaced > 0
	}
	if short {
		if err := c.explainShortage(ctx, seen.Jobs); err != nil {
			return reconcile.Observation{}, err
		}
	}
	for _, alloc := range allocs {
		if _, ours := seen.Jobs[alloc.JobID]; ours {
			seen.Replicas = append(seen.Replicas, replica(alloc))
		}
	}
	return seen, nil
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

// readers is how many jobs are read at once. A new leader reads all of them,
// one call each, and thousands in a row would take longer than a look may.
const readers = 16

// wholeJobs returns what the jobs of stubs say of themselves, by id, reading
// those that changed since the last look. A job that is gone by now is left
// out. What was read is remembered even when another could not be, so that the
// next look goes on where this one stopped.
func (c *Client) wholeJobs(ctx context.Context, stubs []*api.JobListStub) (map[string]reconcile.Job, error) {
	c.mu.Lock()
	known := c.jobs
	c.mu.Unlock()
	jobs := make(map[string]reconcile.Job, len(stubs))
	var changed []string
	for _, stub := range stubs {
		if job, ok := known[stub.ID]; ok && job.ModifyIndex == stub.JobModifyIndex {
			jobs[stub.ID] = job
			continue
		}
		changed = append(changed, stub.ID)
	}
	read, err := c.readJobs(ctx, changed)
	maps.Copy(jobs, read)
	c.mu.Lock()
	c.jobs = jobs
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return maps.Clone(jobs), nil
}

// readJobs reads jobs, some at once, until one cannot be read.
func (c *Client) readJobs(ctx context.Context, ids []string) (map[string]reconcile.Job, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	jobs := map[string]reconcile.Job{}
	var reading sync.WaitGroup
	turns := make(chan struct{}, readers)
	for _, id := range ids {
		turns <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		reading.Go(func() {
			defer func() { <-turns }()
			whole, err := c.job(ctx, id)
			if err != nil && !errors.Is(err, ErrNotFound) {
				cancel(err)
				return
			}
			if job, ours := observed(whole); ours {
				mu.Lock()
				defer mu.Unlock()
				jobs[id] = job
			}
		})
	}
	reading.Wait()
	return jobs, context.Cause(ctx)
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
		if metric := eval.FailedTGAllocs[job.Deployment]; metric != nil {
			job.Blocked = explain(metric)
			jobs[job.ID] = job
		}
	}
	return nil
}
