package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Register makes a job or replaces one, if the one in Nomad is still at modifyIndex
// (0: there is none, or a stopped one of the same cluster and version). It
// returns ErrConflict when it is not.
func (c *Client) Register(ctx context.Context, job *api.Job, modifyIndex uint64) error {
	id, err := jobID(job)
	if err != nil {
		return err
	}
	err = c.register(ctx, job, modifyIndex)
	if modifyIndex != 0 || !errors.Is(err, ErrConflict) {
		return err
	}
	old, readErr := c.job(ctx, id)
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	if old.Stop == nil || !*old.Stop || !sameOrigin(old, job) {
		return err
	}
	return c.register(ctx, job, *old.JobModifyIndex)
}

func (c *Client) register(ctx context.Context, job *api.Job, modifyIndex uint64) error {
	q, cancel := write(ctx)
	defer cancel()
	resp, _, err := c.nomad.Jobs().EnforceRegister(job, modifyIndex, q)
	if err != nil {
		return c.fault("register job "+*job.ID, err)
	}
	if resp.Warnings != "" {
		c.log.Warn("nomad warns about a job", "job", *job.ID, "warnings", oneLine(resp.Warnings))
	}
	return nil
}

// Update changes a living job as u says, if it is still at u.ModifyIndex, and
// leaves all else in it as it is. It returns ErrConflict when it is not.
func (c *Client) Update(ctx context.Context, u reconcile.Update) error {
	job, err := c.job(ctx, u.JobID)
	if err != nil {
		return fmt.Errorf("update job %s: %w", u.JobID, err)
	}
	if *job.JobModifyIndex != u.ModifyIndex {
		return fmt.Errorf("update job %s: %w: it is at index %d, not %d", u.JobID, ErrConflict, *job.JobModifyIndex, u.ModifyIndex)
	}
	if !jobspec.SetLive(job, u.Group, u.Count, u.Meta) {
		return fmt.Errorf("update job %s: %w: it has no group %q", u.JobID, ErrConflict, u.Group)
	}
	return c.register(ctx, job, u.ModifyIndex)
}

// sameOrigin says whether two jobs are of one cluster and one deployment
// version.
func sameOrigin(a, b *api.Job) bool {
	x, ours := jobspec.ReadMeta(a.Meta)
	y, _ := jobspec.ReadMeta(b.Meta)
	x.CoreMHz, y.CoreMHz = 0, 0
	return ours && x == y
}

// Scale sets the count of a job's group. The reason shows in Nomad's list of
// scaling events.
func (c *Client) Scale(ctx context.Context, jobID, group string, count int, reason string) error {
	q, cancel := write(ctx)
	defer cancel()
	_, _, err := c.nomad.Jobs().Scale(jobID, group, &count, reason, false, nil, q)
	return c.fault(fmt.Sprintf("scale job %s to %d", jobID, count), err)
}

// Stop stops a job, if it is still at modifyIndex: its replicas leave Consul,
// finish what they have begun, and end. The job stays listed as stopped until
// Nomad's garbage collection. To stop a stopped job is no error.
//
// Nomad has no check-and-set for this, so the job is read first; what is left
// of the race is one round trip.
func (c *Client) Stop(ctx context.Context, jobID string, modifyIndex uint64) error {
	job, err := c.job(ctx, jobID)
	if err != nil {
		return fmt.Errorf("stop job %s: %w", jobID, err)
	}
	if _, ours := jobspec.ReadMeta(job.Meta); !ours {
		return fmt.Errorf("stop job %s: %w: it is not one that serve-nomad made", jobID, ErrConflict)
	}
	if job.Stop != nil && *job.Stop {
		return nil
	}
	if *job.JobModifyIndex != modifyIndex {
		return fmt.Errorf("stop job %s: %w: it is at index %d, not %d", jobID, ErrConflict, *job.JobModifyIndex, modifyIndex)
	}
	q, cancel := write(ctx)
	defer cancel()
	_, _, err = c.nomad.Jobs().DeregisterOpts(jobID, &api.DeregisterOptions{}, q)
	return c.fault("stop job "+jobID, err)
}

// Plan asks Nomad's scheduler whether all of job would fit now, and changes
// nothing. The problem is "" when it would.
func (c *Client) Plan(ctx context.Context, job *api.Job) (problem string, err error) {
	id, err := jobID(job)
	if err != nil {
		return "", err
	}
	q, cancel := write(ctx)
	defer cancel()
	resp, _, err := c.nomad.Jobs().Plan(job, false, q)
	if err != nil {
		return "", c.fault("plan job "+id, err)
	}
	var problems []string
	for _, group := range slices.Sorted(maps.Keys(resp.FailedTGAllocs)) {
		metric := resp.FailedTGAllocs[group]
		if metric == nil {
			continue
		}
		missing := "1 replica has"
		if n := 1 + metric.CoalescedFailures; n > 1 {
			missing = fmt.Sprintf("%d replicas have", n)
		}
		problems = append(problems, fmt.Sprintf("%s: %s no room now: %s", group, missing, explain(metric)))
	}
	return strings.Join(problems, "; "), nil
}

func jobID(job *api.Job) (string, error) {
	if job == nil || job.ID == nil || *job.ID == "" {
		return "", errors.New("a job needs an id")
	}
	return *job.ID, nil
}
