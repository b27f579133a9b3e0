package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

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
	return p
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
	p.Changes = append(p.Changes, groupChanges(was, next.Spec)...)
	return p
}

// groupChanges says by field what differs between two specs of a worker group,
// sorted by path.
func groupChanges(before, after *appspec.WorkerGroup) []appspec.Change {
	was, is := flat(before), flat(after)
	replaced := map[string]bool{}
	if before != nil && after != nil {
		for _, field := range before.Changed(after) {
			replaced[field] = true
		}
	}
	changes := []appspec.Change{}
	for path, text := range is {
		if was[path] != text {
			changes = append(changes, groupChange(path, was[path], text, replaced))
		}
	}
	for path, text := range was {
		if _, kept := is[path]; !kept {
			changes = append(changes, groupChange(path, text, "", replaced))
		}
	}
	slices.SortFunc(changes, func(a, b appspec.Change) int { return cmp.Compare(a.Path, b.Path) })
	return changes
}

func groupChange(path, was, is string, replaced map[string]bool) appspec.Change {
	field, rest, inside := strings.Cut(path, ".")
	change := appspec.Change{Path: path, Old: was, New: is, Effect: appspec.EffectLive}
	if replaced[field] {
		change.Effect = appspec.EffectReplace
	}
	// Values of an agent's environment and of a target's settings are shown to
	// nobody: many of them are credentials.
	if secret := field == "env" || field == "target" && strings.HasPrefix(rest, "config."); secret && inside {
		change.Old, change.New = masked(was), masked(is)
	}
	return change
}

func masked(text string) string {
	if text == "" {
		return ""
	}
	return appspec.Sensitive
}

// flat is a worker group laid flat, by the paths of its fields.
func flat(group *appspec.WorkerGroup) map[string]string {
	out := map[string]string{}
	if group == nil {
		return out
	}
	data, err := json.Marshal(group)
	if err != nil {
		return out
	}
	var tree map[string]any
	if json.Unmarshal(data, &tree) == nil {
		delete(tree, "name")
		flatten("", tree, out)
	}
	return out
}

func flatten(path string, value any, out map[string]string) {
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			flatten(join(name), inner, out)
		}
	case []any:
		for i, inner := range v {
			flatten(join(strconv.Itoa(i)), inner, out)
		}
	case string:
		out[path] = strconv.Quote(v)
	case nil:
	default:
		text, err := json.Marshal(v)
		if err == nil {
			out[path] = string(text)
		}
	}
}
