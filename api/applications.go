package api

import (
	"context"
	"errors"
	"slices"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func listApplications(c *call) error {
	return c.watch(func(v *View) (any, error) {
		return reconcile.SummariseAll(v.State, v.World, c.server.cfg.Settings), nil
	})
}

func readApplication(c *call) error {
	return c.watch(func(v *View) (any, error) {
		status, found := reconcile.Summarise(v.State, v.World, c.server.cfg.Settings, c.params["app"])
		if !found {
			return nil, c.noApplication()
		}
		return status, nil
	})
}

func (c *call) noApplication() error {
	return fail(CodeNotFound, "no application %q", c.params["app"])
}

// readSpec is GET .../spec: the spec as it was deployed, of the newest version
// or of ?version=.
func readSpec(c *call) error {
	wanted, err := c.number("version")
	if err != nil {
		return err
	}
	return c.watch(func(v *View) (any, error) {
		app := v.State.Applications[c.params["app"]]
		if app == nil {
			return nil, c.noApplication()
		}
		if wanted == 0 {
			return app.Wanted.Spec, nil
		}
		for _, h := range versions(app) {
			if uint64(h.Version.Number) == wanted {
				return h.Version.Spec, nil
			}
		}
		return nil, fail(CodeNotFound, "application %q has no version %d, or it is too old to be remembered", app.Name, wanted)
	})
}

// readHistory is GET .../history: the versions, newest first.
func readHistory(c *call) error {
	return c.watch(func(v *View) (any, error) {
		app := v.State.Applications[c.params["app"]]
		if app == nil {
			return nil, c.noApplication()
		}
		list := []VersionInfo{}
		for _, h := range versions(app) {
			list = append(list, VersionInfo{
				Version: h.Version.Number, Rollout: h.Rollout,
				Serving: h.Version.Number == app.Serving.Number, Wanted: h.Version.Number == app.Wanted.Number,
				By: h.Version.By, Message: h.Version.Message, At: h.Version.At,
				Replicas: h.Version.Replicas, Hashes: h.Version.Hashes,
			})
		}
		return list, nil
	})
}

// versions lists every version that is remembered, newest first.
func versions(app *raftstate.Application) []raftstate.History {
	list := append(slices.Clone(app.History), raftstate.History{Version: app.Wanted, Rollout: app.Rollout})
	slices.Reverse(list)
	return list
}

// plan is POST /v1/plan.
func plan(c *call) error {
	var req PlanRequest
	if _, err := c.decode(&req); err != nil {
		return err
	}
	command, err := deployCommand(req.Applications, nil)
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
	answer := PlanResponse{Index: view.State.Index, Applications: []ApplicationPlan{}}
	for _, in := range whole.Deploy.Applications {
		p := applicationPlan(view.State, next, in.Spec.Name)
		if p.Action != ActionNone {
			one := whole
			one.Deploy = &raftstate.Deploy{Applications: []raftstate.DeployApplication{in}}
			steps, warnings, err := s.cfg.Planner.Preview(ctx, one)
			var refusal *raftstate.Refusal
			switch {
			case errors.As(err, &refusal):
				return PlanResponse{}, err
			case err != nil:
				warnings = []string{"the steps cannot be told: " + err.Error()}
			}
			for _, step := range steps {
				p.Steps = append(p.Steps, step.String())
			}
			answer.Warnings = append(answer.Warnings, warnings...)
		}
		answer.Applications = append(answer.Applications, p)
	}
	slices.Sort(answer.Warnings)
	answer.Warnings = slices.Compact(answer.Warnings)
	return answer, nil
}

// What ApplicationPlan.Action says.
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
