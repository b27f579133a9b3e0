package api

import (
	"bytes"
	"context"
	"fmt"
	"maps"
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
	p.compare()
	if p.changes {
		p.preview()
		p.warn(s.cfg.Planner.Unreadable(ctx, p.command)...)
	}
	if p.known {
		p.room(ctx)
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
	next    *raftstate.State  // after it
	answer  PlanResponse
	steps   []reconcile.Step
	told    map[string]bool // the step of a node pool is not one of each of its groups
	changes bool            // something would change
	known   bool            // what the steps are
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
	return &planning{
		server: s, view: view, command: whole, next: next, told: map[string]bool{},
		answer: PlanResponse{Index: view.State.Index, Applications: []ApplicationPlan{}, WorkerGroups: []GroupPlan{}},
	}, nil
}

// compare says what would be otherwise: of what the command names, and of the
// applications that move to nodes of another shape, though it does not name them.
func (p *planning) compare() {
	if deploy := p.command.Deploy; deploy != nil {
		for _, in := range deploy.WorkerGroups {
			plan := groupPlan(p.view.State, p.next, in.Spec.Name)
			p.answer.WorkerGroups = append(p.answer.WorkerGroups, plan)
			p.changes = p.changes || plan.Action != ActionNone
		}
	}
	names := p.command.Versioned()
	own := len(names)
	for _, name := range slices.Sorted(maps.Keys(p.next.Applications)) {
		if !slices.Contains(names, name) && p.next.Applications[name] != p.view.State.Applications[name] {
			names = append(names, name)
		}
	}
	for i, name := range names {
		plan := applicationPlan(p.view.State, p.next, name)
		plan.Moved = i >= own
		p.answer.Applications = append(p.answer.Applications, plan)
		if plan.Action != ActionNone {
			p.changes = true
			p.warn(misfits(p.next, p.next.Applications[name].Wanted.Spec)...)
		}
	}
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

// preview tells the steps that the controller would take for each. What cannot be
// told is a warning.
func (p *planning) preview() {
	steps, err := p.server.cfg.Planner.Preview(p.command)
	if err != nil {
		p.warn("the steps cannot be told: " + err.Error())
		return
	}
	p.steps, p.known = steps, true
	p.warn(reconcile.Oversized(steps)...)
	parts := partsOf(p.view.World, steps)
	for i := range p.answer.WorkerGroups {
		if plan := &p.answer.WorkerGroups[i]; plan.Action != ActionNone {
			plan.Steps = p.untold(parts.ofGroup(plan.Name, p.next.WorkerGroups[plan.Name].Spec.NodePool))
		}
	}
	for i := range p.answer.Applications {
		if plan := &p.answer.Applications[i]; plan.Action != ActionNone {
			part := parts.ofApplication(plan.Name)
			plan.Steps = p.untold(part)
			plan.Jobs = append(plan.Jobs, reconcile.JobCounts(p.view.World, part)...)
		}
	}
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
func (p *planning) room(ctx context.Context) {
	room, doubts, err := p.server.cfg.Planner.Room(ctx, p.command, p.steps)
	if err != nil {
		p.warn("whether there is room cannot be told: " + err.Error())
		return
	}
	p.warn(doubts...)
	p.answer.Room = &RoomPlan{
		Fits:    len(room.Short) == 0 && len(doubts) == 0,
		Nodes:   append([]nodescale.GroupOutlook{}, room.Groups...),
		Missing: append([]nodescale.ShortOutlook{}, room.Short...),
	}
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
