package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// plan is POST /v1/plan.
func plan(c *call) error {
	var req PlanRequest
	if _, err := c.decode(&req); err != nil {
		return err
	}
	command, err := deployCommand(&DeployRequest{Applications: req.Applications, WorkerGroups: req.WorkerGroups})
	if err != nil {
		return err
	}
	answer, err := c.server.plan(c.r.Context(), c.look(), command)
	if err != nil {
		return err
	}
	return c.answer(answer)
}

// plan says what a deploy would do to what is there in view.
func (s *Server) plan(ctx context.Context, view *View, command *raftstate.Deploy) (PlanResponse, error) {
	// Through the log's codec, as the real command goes: what is compared is
	// then what would be stored.
	data, err := raftstate.Encode(raftstate.Command{At: s.cfg.Now().UTC(), Deploy: command})
	if err != nil {
		return PlanResponse{}, err
	}
	whole, err := raftstate.Decode(data)
	if err != nil {
		return PlanResponse{}, err
	}
	next, result := view.State.Apply(view.State.Index+1, whole)
	if err := result.Err(); err != nil {
		return PlanResponse{}, err
	}
	answer := PlanResponse{Index: view.State.Index, Applications: []ApplicationPlan{}, WorkerGroups: []GroupPlan{}}
	told := map[string]bool{} // steps of a group are not those of each application on it too
	for _, in := range whole.Deploy.WorkerGroups {
		p := groupPlan(view.State, next, in.Spec.Name)
		if p.Action != ActionNone {
			one := &raftstate.Deploy{WorkerGroups: []raftstate.DeployWorkerGroup{in}}
			if p.Steps, err = s.steps(ctx, whole, one, told, &answer); err != nil {
				return PlanResponse{}, err
			}
		}
		answer.WorkerGroups = append(answer.WorkerGroups, p)
	}
	for _, in := range whole.Deploy.Applications {
		p := applicationPlan(view.State, next, in.Spec.Name)
		if p.Action != ActionNone {
			answer.Warnings = append(answer.Warnings, misfits(next, in.Spec)...)
			one := &raftstate.Deploy{Applications: []raftstate.DeployApplication{in}, WorkerGroups: whole.Deploy.WorkerGroups}
			if p.Steps, err = s.steps(ctx, whole, one, told, &answer); err != nil {
				return PlanResponse{}, err
			}
		}
		answer.Applications = append(answer.Applications, p)
	}
	slices.Sort(answer.Warnings)
	answer.Warnings = slices.Compact(answer.Warnings)
	return answer, nil
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

// steps are what the controller would do for one part of the command, but for
// what was told already. What cannot be told is a warning.
func (s *Server) steps(
	ctx context.Context, command raftstate.Command, one *raftstate.Deploy, told map[string]bool, answer *PlanResponse,
) ([]string, error) {
	command.Deploy = one
	list := []string{}
	steps, warnings, err := s.cfg.Planner.Preview(ctx, command)
	var refusal *raftstate.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, err
	case err != nil:
		warnings = []string{"the steps cannot be told: " + err.Error()}
	}
	answer.Warnings = append(answer.Warnings, warnings...)
	for _, step := range steps {
		if text := step.String(); !told[text] {
			list = append(list, text)
			told[text] = true
		}
	}
	return list, nil
}

// What ApplicationPlan.Action and GroupPlan.Action say.
const (
	ActionCreate = "create"
	ActionUpdate = "update"
	ActionNone   = "none"
)

func applicationPlan(before, after *raftstate.State, name string) ApplicationPlan {
	p := ApplicationPlan{Name: name, Action: ActionCreate, Changes: []appspec.Change{}, Steps: []string{}}
	old, next := before.Applications[name], after.Applications[name]
	var was *appspec.Application
	if old != nil && !old.Deleting {
		p.Action, p.CheckIndex, was = ActionUpdate, old.ModifyIndex, old.Wanted.Spec
		if next == old {
			p.Action = ActionNone
			return p
		}
	}
	p.Changes = append(p.Changes, appspec.Diff(was, next.Wanted.Spec)...)
	if was != nil {
		p.Changes = append(p.Changes, unscaled(old, next, p.Changes)...)
	}
	return p
}

// unscaled tells of replicas that were scaled since they were deployed, and that
// the same spec takes back to its own number.
func unscaled(old, next *raftstate.Application, told []appspec.Change) []appspec.Change {
	var list []appspec.Change
	for _, d := range next.Wanted.Spec.Deployments {
		was, known := old.Wanted.Replicas[d.Name]
		is, path := next.Wanted.Replicas[d.Name], "deployment."+d.Name+".num_replicas"
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
	return p
}
