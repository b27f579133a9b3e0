package api

import (
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// rollback is POST /v1/applications/{app}/rollback. The body may be {}.
func rollback(c *call) error {
	var req RollbackRequest
	body, err := c.decode(&req)
	if err != nil {
		return err
	}
	if req.Version < 0 {
		return faulty("the request has faults", []appspec.Fault{{Path: "version", Message: "Versions count from 1."}})
	}
	name := c.params["app"]
	result, view, err := c.commit(order{req.RequestID, req.By, req.Message, body}, raftstate.Command{Rollback: &raftstate.Rollback{
		Application: name, Version: req.Version, Message: req.Message, CheckIndex: req.CheckIndex,
	}})
	if err != nil {
		return err
	}
	app := view.State.Applications[name]
	if app == nil {
		return c.noApplication() // deleted since
	}
	return c.answer(RollbackResponse{result.Index, deployedAs(app, result.Index)})
}

// deployedAs says what came of a command that was applied at index.
func deployedAs(app *raftstate.Application, index uint64) Deployed {
	return Deployed{Name: app.Name, Version: app.Wanted.Number, ModifyIndex: app.ModifyIndex, Changed: app.ModifyIndex >= index}
}

// steer is POST /v1/applications/{app}/rollout/{action}. The body may be {}.
func steer(c *call) error {
	var req SteerRequest
	body, err := c.decode(&req)
	if err != nil {
		return err
	}
	action := raftstate.RolloutAction(c.params["action"])
	switch action {
	case raftstate.ActionPause, raftstate.ActionResume, raftstate.ActionPromote, raftstate.ActionAbort:
	default:
		return fail(CodeNotFound, "nothing does %q to a rollout: there are %s, %s, %s and %s", action,
			raftstate.ActionPause, raftstate.ActionResume, raftstate.ActionPromote, raftstate.ActionAbort)
	}
	if req.Version < 0 {
		return faulty("the request has faults", []appspec.Fault{{Path: "version", Message: "Versions count from 1."}})
	}
	name := c.params["app"]
	result, view, err := c.commit(order{req.RequestID, req.By, req.Message, body}, raftstate.Command{SteerRollout: &raftstate.SteerRollout{
		Application: name, Version: req.Version, Action: action, Message: req.Message,
	}})
	if err != nil {
		return err
	}
	app := view.State.Applications[name]
	if app == nil {
		return c.noApplication() // deleted since
	}
	return c.answer(SteerResponse{result.Index, app.Wanted.Number, app.Rollout})
}
