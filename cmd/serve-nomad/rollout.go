package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// outcome is how one application's rollout ended.
type outcome struct {
	name    string
	status  reconcile.ApplicationStatus // the last that was seen
	problem string                      // "": healthy
	took    time.Duration
}

// rolloutFollower watches rollouts until they end, and shows how they go.
type rolloutFollower struct {
	c       *command
	what    string // what began them: "deploy", "rollback"
	client  *api.Client
	answer  api.DeployResponse
	started time.Time
	show    *progress
	told    map[string]bool      // job id: it was said that it fails
	logged  map[string]bool      // job id: its log was shown
	paused  map[string]time.Time // application -> since when it was said to be paused
	live    map[string]bool      // application: its rollout was live when it was last seen
	away    bool                 // the server does not answer, and that was said
}

func newRolloutFollower(c *command, what string, client *api.Client, answer api.DeployResponse, started time.Time) *rolloutFollower {
	return &rolloutFollower{
		c: c, what: what, client: client, answer: answer, started: started,
		told: map[string]bool{}, logged: map[string]bool{}, paused: map[string]time.Time{}, live: map[string]bool{},
		show: &progress{
			out: c.stdout, terminal: c.terminal, quiet: c.json, started: started,
			last: map[string]string{}, waits: map[string]waitLine{},
		},
	}
}

// seen is one look at one application.
type seen struct {
	at     int // in answer.Applications
	status reconcile.ApplicationStatus
	err    error
}

// run returns when every rollout has ended, or ctx.
func (f *rolloutFollower) run(ctx context.Context) []outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looks := make(chan seen)
	outcomes := make([]outcome, len(f.answer.Applications))
	open := map[int]bool{}
	for i, d := range f.answer.Applications {
		outcomes[i].name = d.Name
		open[i] = true
		go f.watch(ctx, i, looks)
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for len(open) > 0 {
		select {
		case <-ctx.Done():
			f.show.close()
			for i := range open {
				outcomes[i].problem = f.unfinished(outcomes[i])
				outcomes[i].took = time.Since(f.started)
			}
			return outcomes
		case <-ticker.C:
		case look := <-looks:
			if f.take(ctx, look, &outcomes[look.at]) {
				outcomes[look.at].took = time.Since(f.started)
				delete(open, look.at)
			}
		}
		f.show.draw(outcomes)
	}
	f.show.close()
	return outcomes
}

// watch sends each new status of one application.
func (f *rolloutFollower) watch(ctx context.Context, at int, looks chan<- seen) {
	var query api.Query
	for ctx.Err() == nil {
		status, index, err := f.client.Application(ctx, f.answer.Applications[at].Name, query)
		query.Index = index
		select {
		case looks <- seen{at, status, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			query.Index = 0
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// take notes one look, and says whether it was the last one.
func (f *rolloutFollower) take(ctx context.Context, look seen, o *outcome) bool {
	deployed := f.answer.Applications[look.at]
	switch {
	case ctx.Err() != nil:
		return false
	case api.CodeNotFound.Is(look.err):
		o.problem = fmt.Sprintf("application %q was deleted", o.name)
		return true
	case look.err != nil:
		if !f.away {
			f.show.note(fmt.Sprintf("%s; the %s goes on without this command, which tries again", look.err, f.what))
		}
		f.away = true
		return false
	}
	f.away = false
	if look.status.ModifyIndex < deployed.ModifyIndex {
		return false // from before the deploy
	}
	o.status = look.status
	f.turns(look.status)
	f.pauses(look.status)
	f.explain(ctx, look.status)
	return ended(deployed, o)
}

// ended says whether the rollout is over, and notes the problem if it is one.
func ended(deployed api.Deployed, o *outcome) bool {
	s := o.status
	switch {
	case s.Status == reconcile.Deleting:
		o.problem = fmt.Sprintf("application %q is being deleted", s.Name)
	case s.Version != deployed.Version:
		o.problem = fmt.Sprintf("application %q: version %d, deployed by %s, has taken the place of version %d", s.Name, s.Version, orSomebody(s.By), deployed.Version)
	case s.Rollout.Status == raftstate.RolloutFailed:
		serving := "nothing of it serves: there is no earlier version"
		how := "failed"
		if s.ServingVersion != s.Version {
			serving = fmt.Sprintf("version %d still serves", s.ServingVersion)
			how = "was rolled back"
		}
		o.problem = fmt.Sprintf("application %q: version %d %s: %s; %s", s.Name, s.Version, how, s.Rollout.Reason, serving)
	case s.Rollout.Status == raftstate.RolloutSuccessful && s.Status != reconcile.Deploying:
	default:
		return false
	}
	return true
}

func orSomebody(by string) string {
	if by == "" {
		return "somebody"
	}
	return by
}

func (f *rolloutFollower) unfinished(o outcome) string {
	why := ""
	if reason := missingReasons(o.status, time.Now()); reason != "" {
		why = " (" + reason + ")"
	}
	goes := "goes on at the server"
	if o.status.Rollout.Paused != nil {
		goes = "is paused"
	}
	return fmt.Sprintf("application %q is not healthy yet after %s%s; the %s %s: serve-nomad status %s",
		o.name, brief(time.Since(f.started)), why, f.what, goes, o.name)
}

// turns says why a rollout that was to restart nothing starts new replicas: those
// that run did not take their user_config.
func (f *rolloutFollower) turns(s reconcile.ApplicationStatus) {
	live := s.Rollout.Strategy == appspec.StrategyLive
	if f.live[s.Name] && !live {
		f.show.note(fmt.Sprintf("%s version %d goes on as %s: %s", s.Name, s.Version, s.Rollout.Strategy, s.Rollout.Why))
	}
	f.live[s.Name] = live
}

// pauses says, once for each pause, who stopped the rollout and how it goes on.
func (f *rolloutFollower) pauses(s reconcile.ApplicationStatus) {
	p := s.Rollout.Paused
	if p == nil || s.Rollout.Status != raftstate.RolloutRunning || f.paused[s.Name].Equal(p.At) {
		return
	}
	f.paused[s.Name] = p.At
	f.show.note(fmt.Sprintf("%s version %d is paused %s", s.Name, s.Version, pauseText(p)),
		fmt.Sprintf("  to go on: serve-nomad resume %s; to the end at once: serve-nomad promote %s; back to version %d: serve-nomad abort %s",
			s.Name, s.Name, s.ServingVersion, s.Name))
}

func pauseText(p *raftstate.Pause) string {
	text := "by " + orSomebody(p.By)
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// explain says, once for each job, that a replica keeps failing, and shows its
// log as soon as there is one: Nomad writes down what a replica said a moment
// after it has ended.
func (f *rolloutFollower) explain(ctx context.Context, s reconcile.ApplicationStatus) {
	for _, d := range s.Deployments {
		r, failing := failingReplica(d)
		if !failing || f.logged[d.JobID] {
			continue
		}
		said := f.logTail(ctx, s.Name, d.Name, r.ID)
		if !f.told[d.JobID] {
			f.told[d.JobID] = true
			said = append([]string{fmt.Sprintf("%s/%s: replica %s on node %s does not stay up: %s", s.Name, d.Name, short(r.ID), r.Node, r.Reason)}, said...)
			f.logged[d.JobID] = len(said) > 1
		} else {
			f.logged[d.JobID] = len(said) > 0
		}
		if len(said) > 0 {
			f.show.note(said...)
		}
	}
}

func failingReplica(d reconcile.DeploymentStatus) (reconcile.ReplicaInfo, bool) {
	if !d.Wanted {
		return reconcile.ReplicaInfo{}, false
	}
	for _, r := range d.Replicas {
		if !r.Healthy && (r.Status == reconcile.ReplicaFailed || r.Restarts > 0) {
			return r, true
		}
	}
	return reconcile.ReplicaInfo{}, false
}

// logTailLines is how much of a failing replica's log is shown, of each of its
// outputs.
const logTailLines = 10

// logTail returns the last lines that a replica wrote, standard error first.
func (f *rolloutFollower) logTail(ctx context.Context, application, deployment, replica string) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var lines []string
	for _, stream := range []string{"stderr", "stdout"} {
		text, err := f.readLog(ctx, api.LogQuery{
			Application: application, Deployment: deployment, Replica: replica, Stream: stream, Tail: logTailLines,
		})
		if api.CodeNotFound.Is(err) {
			continue // it never started, so it wrote nothing
		}
		if err != nil {
			lines = append(lines, "  its "+stream+" cannot be read: "+err.Error())
			continue
		}
		text = strings.TrimRight(text, "\n ")
		if text == "" {
			continue
		}
		all := strings.Split(text, "\n")
		for _, line := range all[max(0, len(all)-logTailLines):] {
			lines = append(lines, "  "+stream+" | "+line)
		}
	}
	return lines
}

// maxLogShown bounds what is read for the last lines of a log.
const maxLogShown = 64 << 10

func (f *rolloutFollower) readLog(ctx context.Context, query api.LogQuery) (string, error) {
	log, err := f.client.Logs(ctx, query)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(log, maxLogShown))
	return string(data), errors.Join(err, log.Close())
}
