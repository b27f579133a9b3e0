package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Limits on what people write beside a spec.
const (
	maxRequestID = 128
	maxBy        = 128
	maxMessage   = 1024
)

// order is what every write carries.
type order struct {
	requestID string
	by        string
	message   string
	body      []byte // what the request id stands for
}

// decode reads the body into v.
func (c *call) decode(v any) ([]byte, error) {
	if err := checkMedia(c.r); err != nil {
		return nil, err
	}
	body, err := readBody(c.w, c.r)
	if err != nil {
		return nil, err
	}
	return body, decodeJSON(body, v)
}

// commit proposes a command and waits until this server's View has it. A
// refusal is an error.
func (c *call) commit(o order, command raftstate.Command) (raftstate.Result, *View, error) {
	if err := o.check(); err != nil {
		return raftstate.Result{}, nil, err
	}
	cfg := c.server.cfg
	id, err := c.commandID(o)
	if err != nil {
		return raftstate.Result{}, nil, err
	}
	command.ID, command.At, command.By = id, cfg.Now().UTC(), o.by
	ctx, cancel := context.WithTimeout(c.r.Context(), cfg.ProposeLimit)
	defer cancel()
	result, err := cfg.Cluster.Propose(ctx, command)
	switch {
	case errors.Is(err, ErrNoLeader):
		return result, nil, ErrNoLeader
	case err != nil:
		return result, nil, o.unknown(err)
	case result.Err() != nil:
		return result, nil, result.Err()
	}
	view := c.cluster().View()
	for view.State.Index < result.Index {
		if ctx.Err() != nil {
			return result, nil, o.unknown(ctx.Err())
		}
		view = c.cluster().Wait(ctx, view.Index)
	}
	return result, view, nil
}

func (o order) check() error {
	var faults []appspec.Fault
	for _, f := range []struct {
		path, value string
		limit       int
	}{{"request_id", o.requestID, maxRequestID}, {"by", o.by, maxBy}, {"message", o.message, maxMessage}} {
		if len(f.value) > f.limit {
			faults = append(faults, appspec.Fault{Path: f.path, Message: "This is longer than " + strconv.Itoa(f.limit) + " bytes."})
		}
		if strings.ContainsFunc(f.value, unicode.IsControl) {
			faults = append(faults, appspec.Fault{Path: f.path, Message: "There are control characters or line breaks in this."})
		}
	}
	if len(faults) > 0 {
		return faulty("the request has faults", faults)
	}
	return nil
}

// commandID is the request id with a digest of what it stands for, so that one
// id for two different requests is found out.
func (c *call) commandID(o order) (string, error) {
	if o.requestID == "" {
		return c.server.cfg.NewID(), nil
	}
	h := sha256.New()
	for _, part := range []string{c.r.Method, c.r.URL.Path, string(o.body)} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	prefix := o.requestID + "/"
	id := prefix + hex.EncodeToString(h.Sum(nil)[:8])
	reused := slices.ContainsFunc(c.cluster().View().State.Recent, func(r raftstate.Receipt) bool {
		return r.ID != id && len(r.ID) == len(id) && strings.HasPrefix(r.ID, prefix)
	})
	if reused {
		return "", fail(CodeRequestIDReused, "request_id %q was used for another request: take a new one", o.requestID)
	}
	return id, nil
}

func (o order) unknown(err error) error {
	advice := "look whether it was done before you send it again; with a request_id it could be sent again safely"
	if o.requestID != "" {
		advice = "send it again with the same request_id, which applies it once"
	}
	f := fail(CodeUnknownOutcome, "the write may or may not have been done (%s): %s", err, advice)
	f.RequestID, f.cause = o.requestID, err
	return f
}

// deploy is PUT /v1/applications.
func deploy(c *call) error {
	var req DeployRequest
	body, err := c.decode(&req)
	if err != nil {
		return err
	}
	command, err := deployCommand(&req)
	if err != nil {
		return err
	}
	result, view, err := c.commit(order{req.RequestID, req.By, req.Message, body}, raftstate.Command{Deploy: command})
	if err != nil {
		return err
	}
	answer := DeployResponse{Index: result.Index, Applications: []Deployed{}, WorkerGroups: []DeployedGroup{}}
	for _, spec := range req.Applications {
		app := view.State.Applications[spec.Name]
		if app == nil {
			continue // deleted since
		}
		answer.Applications = append(answer.Applications, deployedAs(app, result.Index))
	}
	answer.Applications = append(answer.Applications, movedBy(result.Index, view.State, answer.Applications)...)
	for _, spec := range req.WorkerGroups {
		if group := view.State.WorkerGroups[spec.Name]; group != nil {
			answer.WorkerGroups = append(answer.WorkerGroups, DeployedGroup{
				Name: group.Name, ModifyIndex: group.ModifyIndex, Changed: group.ModifyIndex >= result.Index,
			})
		}
	}
	return c.answer(answer)
}

// movedBy lists the applications beside those that were deployed that the same
// command made new versions of: their nodes are to be others.
func movedBy(index uint64, state *raftstate.State, deployed []Deployed) []Deployed {
	var list []Deployed
	for _, name := range slices.Sorted(maps.Keys(state.Applications)) {
		app := state.Applications[name]
		named := slices.ContainsFunc(deployed, func(d Deployed) bool { return d.Name == name })
		if !named && !app.Deleting && app.ModifyIndex == index {
			list = append(list, deployedAs(app, index))
		}
	}
	return list
}

// deployCommand checks the specs, whoever wrote them, and makes the command.
func deployCommand(req *DeployRequest) (*raftstate.Deploy, error) {
	if len(req.Applications) == 0 && len(req.WorkerGroups) == 0 {
		return nil, fail(CodeInvalid, "there is no application and no worker group: there is nothing to deploy")
	}
	faults := appspec.ValidateFile(&appspec.File{Applications: req.Applications, WorkerGroups: req.WorkerGroups})
	named := map[string]bool{}
	for _, spec := range req.Applications {
		if spec != nil {
			named[spec.Name] = true
		}
	}
	groups := map[string]bool{}
	for _, spec := range req.WorkerGroups {
		if spec != nil {
			groups[spec.Name] = true
		}
	}
	faults = append(faults, strangers("check_index", "application", req.CheckIndex, named)...)
	faults = append(faults, strangers("group_check_index", "worker group", req.GroupCheckIndex, groups)...)
	if len(faults) > 0 {
		return nil, faulty("the spec has faults; nothing was changed", faults)
	}
	command := &raftstate.Deploy{Message: req.Message, Rollouts: raftstate.RolloutsOfNodes}
	for _, spec := range req.Applications {
		spec.Complete()
		in := raftstate.DeployApplication{Spec: spec, Hashes: map[string]string{}}
		for _, d := range spec.Deployments {
			in.Hashes[d.Name] = appspec.VersionOf(spec, d)
		}
		if index, given := req.CheckIndex[spec.Name]; given {
			in.CheckIndex = &index
		}
		command.Applications = append(command.Applications, in)
	}
	for _, spec := range req.WorkerGroups {
		spec.Complete()
		in := raftstate.DeployWorkerGroup{Spec: spec}
		if index, given := req.GroupCheckIndex[spec.Name]; given {
			in.CheckIndex = &index
		}
		command.WorkerGroups = append(command.WorkerGroups, in)
	}
	return command, nil
}

// strangers are the names with an index to check that the request does not have.
func strangers(path, what string, checks map[string]uint64, named map[string]bool) []appspec.Fault {
	var faults []appspec.Fault
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if !named[name] {
			faults = append(faults, appspec.Fault{Path: path + "." + name, Message: "This names no " + what + " of the request."})
		}
	}
	return faults
}

// scale is POST /v1/applications/{app}/deployments/{deployment}/scale.
func scale(c *call) error {
	var req struct {
		ScaleRequest
		Replicas *int `json:"replicas"` // 0 must be said
	}
	body, err := c.decode(&req)
	if err != nil {
		return err
	}
	if req.Replicas == nil {
		return faulty("the request has faults", []appspec.Fault{{Path: "replicas", Message: "This is missing: say how many."}})
	}
	app, deployment := c.params["app"], c.params["deployment"]
	if faults := scaleFaults(c.cluster().View().State, app, deployment, *req.Replicas); len(faults) > 0 {
		return faulty("the number of replicas is not allowed", faults)
	}
	result, _, err := c.commit(order{req.RequestID, req.By, req.Message, body}, raftstate.Command{Scale: &raftstate.Scale{
		Application: app, Deployment: deployment, Replicas: *req.Replicas, Message: req.Message,
	}})
	if err != nil {
		return err
	}
	return c.answer(WriteResponse{Index: result.Index})
}

// scaleFaults holds a count to the same rules as one in a spec. What is not
// there to scale, or has an autoscaling block, is for Apply to judge.
func scaleFaults(state *raftstate.State, name, deployment string, replicas int) []appspec.Fault {
	app := state.Applications[name]
	if app == nil {
		return nil
	}
	d := app.Deployment(deployment)
	if d == nil || d.Autoscaling != nil {
		return nil
	}
	spec := *app.Wanted.Spec
	if spec.Deployment(deployment) != d {
		spec = *app.Serving.Spec
	}
	changed := *d
	changed.NumReplicas = replicas
	spec.Deployments = slices.Clone(spec.Deployments)
	spec.Deployments[slices.Index(spec.Deployments, d)] = &changed
	return appspec.Validate(&spec)
}

// deleteApplication is DELETE /v1/applications/{app}.
func deleteApplication(c *call) error {
	message := c.query.Get("message")
	o := order{c.query.Get("request_id"), c.query.Get("by"), message, []byte(c.query.Encode())}
	result, _, err := c.commit(o, raftstate.Command{Delete: &raftstate.Delete{Application: c.params["app"], Message: message}})
	if err != nil {
		return err
	}
	return c.answer(WriteResponse{Index: result.Index})
}
