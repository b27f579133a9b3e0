package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// plan is POST /v1/plan.
func plan(c *call) error {
	var req PlanRequest
	if _, err := c.decode(&req); err != nil {
		return err
	}
	command, err := req.command()
	if err != nil {
		return err
	}
	answer, err := c.server.plan(c.r.Context(), c.look(), command)
	if err != nil {
		return err
	}
	return c.answer(answer)
}

// command is what is planned.
func (r *PlanRequest) command() (raftstate.Command, error) {
	switch {
	case r.Rollback == nil:
		deploy, err := deployCommand(&DeployRequest{Applications: r.Applications, WorkerGroups: r.WorkerGroups})
		return raftstate.Command{Deploy: deploy}, err
	case len(r.Applications)+len(r.WorkerGroups) > 0:
		return raftstate.Command{}, fail(CodeInvalid, "a plan is of a deploy or of a rollback, not of both")
	default:
		return raftstate.Command{Rollback: &raftstate.Rollback{Application: r.Rollback.Application, Version: r.Rollback.Version}}, nil
	}
}

// plan says what a command would do to what is there in view.
func (s *Server) plan(ctx context.Context, view *View, command raftstate.Command) (PlanResponse, error) {
	p, err := s.newPlanning(view, command)
	if err != nil {
		return PlanResponse{}, err
	}
	for _, in := range p.deploy.WorkerGroups {
		if err := p.group(in); err != nil {
			return PlanResponse{}, err
		}
	}
	if back := p.command.Rollback; back != nil {
		if err := p.applicationOf(back.Application); err != nil {
			return PlanResponse{}, err
		}
	}
	for _, in := range p.deploy.Applications {
		if err := p.application(in); err != nil {
			return PlanResponse{}, err
		}
	}
	if err := p.moved(); err != nil {
		return PlanResponse{}, err
	}
	if p.changes {
		p.warn(s.cfg.Planner.Unreadable(ctx, p.command)...)
	}
	if p.changes && p.known {
		if err := p.room(ctx); err != nil {
			return PlanResponse{}, err
		}
	}
	slices.Sort(p.answer.Warnings)
	p.answer.Warnings = slices.Compact(p.answer.Warnings)
	return p.answer, nil
}

// planning is a plan in the making.
type planning struct {
	server  *Server
	view    *View
	command raftstate.Command // the whole of it
	deploy  raftstate.Deploy  // the command's, if it is one
	next    *raftstate.State  // after it
	answer  PlanResponse
	told    map[string]bool // steps of a group are not those of each application on it too
	changes bool            // something would change
	known   bool            // all steps could be told
}

func (s *Server) newPlanning(view *View, command raftstate.Command) (*planning, error) {
	// Through the log's codec, as the real command goes: what is compared is
	// then what would be stored.
	command.At = s.cfg.Now().UTC()
	data, err := raftstate.Encode(command)
	if err != nil {
		return nil, err
	}
	whole, err := raftstate.Decode(data)
	if err != nil {
		return nil, err
	}
	next, result := view.State.Apply(view.State.Index+1, whole)
	if err := result.Err(); err != nil {
		return nil, err
	}
	p := &planning{
		server: s, view: view, command: whole, next: next, told: map[string]bool{}, known: true,
		answer: PlanResponse{Index: view.State.Index, Applications: []ApplicationPlan{}, WorkerGroups: []GroupPlan{}},
	}
	if whole.Deploy != nil {
		p.deploy = *whole.Deploy
	}
	return p, nil
}

func (p *planning) group(in raftstate.DeployWorkerGroup) error {
	plan := groupPlan(p.view.State, p.next, in.Spec.Name)
	if plan.Action != ActionNone {
		steps, err := p.stepsOf("", &raftstate.Deploy{WorkerGroups: []raftstate.DeployWorkerGroup{in}})
		if err != nil {
			return err
		}
		plan.Steps, p.changes = p.untold(steps), true
	}
	p.answer.WorkerGroups = append(p.answer.WorkerGroups, plan)
	return nil
}

func (p *planning) application(in raftstate.DeployApplication) error {
	plan := applicationPlan(p.view.State, p.next, in.Spec.Name)
	if plan.Action != ActionNone {
		p.warn(misfits(p.next, in.Spec)...)
		steps, err := p.stepsOf(in.Spec.Name, &raftstate.Deploy{Applications: []raftstate.DeployApplication{in}, WorkerGroups: p.deploy.WorkerGroups})
		if err != nil {
			return err
		}
		plan.Steps, p.changes = p.untold(steps), true
		plan.Jobs = append(plan.Jobs, reconcile.JobCounts(p.view.World, steps)...)
	}
	p.answer.Applications = append(p.answer.Applications, plan)
	return nil
}

func (p *planning) warn(warnings ...string) {
	p.answer.Warnings = append(p.answer.Warnings, warnings...)
}

// misfits says which replicas no node of the worker group that is there already
// could hold, by what its block says. Its nodes may be larger than that.
func misfits(state *raftstate.State, app *appspec.Application) []string {
	var warnings []string
	for _, d := range app.Deployments {
		if g := state.WorkerGroups[d.WorkerGroup]; g != nil {
			for _, fault := range g.Spec.CannotHold(d) {
				warnings = append(warnings, fmt.Sprintf("deployment %q of application %q: %s", d.Name, app.Name, fault.Message))
			}
		}
	}
	return warnings
}

// stepsOf are what the controller would do for an application, or a worker group,
// that a part of the command deploys.
func (p *planning) stepsOf(application string, part *raftstate.Deploy) ([]reconcile.Step, error) {
	if p.reshapes() {
		return p.partOf(application)
	}
	part.Rollouts = p.deploy.Rollouts
	command := p.command
	command.Deploy = part
	return p.steps(command)
}

// steps are what the controller would do for the command or a part of it. What
// cannot be told is a warning.
func (p *planning) steps(command raftstate.Command) ([]reconcile.Step, error) {
	steps, err := p.server.cfg.Planner.Preview(command)
	var refusal *raftstate.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, err
	case err != nil:
		p.known = false
		p.warn("the steps cannot be told: " + err.Error())
	}
	p.warn(reconcile.Oversized(steps)...)
	return steps, nil
}

// untold is what steps say, but for what was told already.
func (p *planning) untold(steps []reconcile.Step) []string {
	list := []string{}
	for _, step := range steps {
		if text := step.String(); !p.told[text] {
			list = append(list, text)
			p.told[text] = true
		}
	}
	return list
}

// room says whether there is room for all of it.
func (p *planning) room(ctx context.Context) error {
	steps, err := p.steps(p.command)
	if err != nil || !p.known {
		return err
	}
	room, doubts, err := p.server.cfg.Planner.Room(ctx, p.command, steps)
	switch {
	case err != nil:
		p.warn("whether there is room cannot be told: " + err.Error())
	default:
		p.warn(doubts...)
		p.answer.Room = &RoomPlan{
			Fits:    len(room.Short) == 0 && len(doubts) == 0,
			Nodes:   append([]nodescale.GroupOutlook{}, room.Groups...),
			Missing: append([]nodescale.ShortOutlook{}, room.Short...),
		}
	}
	return nil
}

// What ApplicationPlan.Action and GroupPlan.Action say.
const (
	ActionCreate = "create"
	ActionUpdate = "update"
	ActionNone   = "none"
)

func applicationPlan(before, after *raftstate.State, name string) ApplicationPlan {
	old, next := before.Applications[name], after.Applications[name]
	p := ApplicationPlan{
		Name: name, Action: ActionCreate, Changes: []appspec.Change{}, Steps: []string{}, Version: next.Wanted.Number,
		Stages: []StagePlan{}, Jobs: []reconcile.JobCount{}, UserConfig: []string{},
	}
	if old == nil || old.Deleting {
		p.Changes = append(p.Changes, appspec.Diff(nil, next.Wanted.Spec)...)
		return p
	}
	was := old.Wanted
	if old.Rollout.Status == raftstate.RolloutFailed {
		was = old.Serving // nothing is left of the one that failed
	}
	p.Action, p.CheckIndex, p.Serving, p.Against = ActionUpdate, old.ModifyIndex, old.Serving.Number, was.Number
	if next == old {
		p.Action = ActionNone
		return p
	}
	p.Changes = append(p.Changes, appspec.Diff(was.Spec, next.Wanted.Spec)...)
	p.Changes = append(p.Changes, unscaled(was, next.Wanted, p.Changes)...)
	p.Strategy, p.Why = next.Rollout.Strategy, next.Rollout.Why
	p.UserConfig = append(p.UserConfig, reconfigured(old.Serving, next.Wanted)...)
	if next.RollingOut() {
		for _, s := range next.Stages() {
			p.Stages = append(p.Stages, StagePlan{s.Name, s.Weight, s.Shadow, appspec.Duration(s.Lasts)})
		}
	}
	return p
}

// reconfigured names the deployments whose running replicas take another
// user_config.
func reconfigured(was, is *raftstate.Version) []string {
	var names []string
	for _, d := range is.Spec.Deployments {
		old := was.Spec.Deployment(d.Name)
		if old != nil && d.Reconfigure != nil && !bytes.Equal(old.UserConfig, d.UserConfig) && was.Hashes[d.Name] == is.Hashes[d.Name] {
			names = append(names, d.Name)
		}
	}
	return names
}

// unscaled tells of replicas that were scaled since they were deployed, and that
// the same spec takes back to its own number.
func unscaled(old, next *raftstate.Version, told []appspec.Change) []appspec.Change {
	var list []appspec.Change
	for _, d := range next.Spec.Deployments {
		was, known := old.Replicas[d.Name]
		is, path := next.Replicas[d.Name], "deployment."+d.Name+".num_replicas"
		if known && was != is && d.Autoscaling == nil && !slices.ContainsFunc(told, func(c appspec.Change) bool { return c.Path == path }) {
			list = append(list, appspec.Change{Path: path, Old: strconv.Itoa(was), New: strconv.Itoa(is), Effect: appspec.EffectLive})
		}
	}
	return list
}

func groupPlan(before, after *raftstate.State, name string) GroupPlan {
	p := GroupPlan{Name: name, Action: ActionCreate, Changes: []appspec.Change{}, Steps: []string{}}
	old, next := before.WorkerGroups[name], after.WorkerGroups[name]
	var was *appspec.WorkerGroup
	if old != nil {
		p.Action, p.CheckIndex, was = ActionUpdate, old.ModifyIndex, old.Spec
		if next == old || next.ModifyIndex == old.ModifyIndex {
			p.Action = ActionNone
			return p
		}
	}
	p.Changes = append(p.Changes, appspec.DiffWorkerGroup(was, next.Spec)...)
	for _, n := range after.Nodes {
		if n.Group == name && next.Outdated(n) {
			p.Outdated++
		}
	}
	if next.Spec.Target.Kind == appspec.TargetNone {
		p.Note = "its target, none, makes no nodes: its block says what those are like that are there, and none is replaced"
	}
	return p
}
