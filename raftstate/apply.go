package raftstate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// Apply returns the State after c, the log entry at index, and what came of
// it. It is total and deterministic: a command that cannot be applied leaves
// the State as it was, save for the index and the receipt.
func (s *State) Apply(index uint64, c Command) (*State, Result) {
	if r, seen := s.receipt(c.ID); seen {
		next := *s
		next.Index = index
		return &next, r
	}
	next := *s
	next.Index = index
	next.Applications = maps.Clone(s.Applications)
	if next.Applications == nil {
		next.Applications = map[string]*Application{}
	}
	r := Result{Index: index}
	if refusal := next.apply(c); refusal != nil {
		next = *s
		next.Index = index
		r.Code, r.Error = refusal.Code, refusal.Message
	}
	// An autoscaler's command needs no receipt, as its changes say what they
	// were decided from; theirs would crowd out those that people wait for.
	if c.ID != "" && c.Autoscale == nil && c.ChangeNodes == nil {
		next.Recent = appendBounded(next.Recent, Receipt{ID: c.ID, Result: r}, maxReceipts)
	}
	return &next, r
}

// apply changes s, which the caller owns down to the map of applications; the
// maps of groups and nodes are copied by those who change them.
func (s *State) apply(c Command) *Refusal {
	switch {
	case c.InitCluster != nil:
		return s.initCluster(c.InitCluster)
	case c.Deploy != nil:
		return s.deploy(c, c.Deploy)
	case c.Scale != nil:
		return s.scale(c, c.Scale)
	case c.Autoscale != nil:
		return s.autoscale(c, c.Autoscale)
	case c.Delete != nil:
		return s.delete(c, c.Delete)
	case c.EndRollout != nil:
		return s.endRollout(c, c.EndRollout)
	case c.AdvanceRollout != nil:
		return s.advanceRollout(c, c.AdvanceRollout)
	case c.SteerRollout != nil:
		return s.steerRollout(c, c.SteerRollout)
	case c.Rollback != nil:
		return s.rollback(c, c.Rollback)
	case c.ForgetVersion != nil:
		return s.forgetVersion(c, c.ForgetVersion)
	case c.RefuseConfig != nil:
		return s.refuseConfig(c, c.RefuseConfig)
	case c.Forget != nil:
		return s.forget(c, c.Forget)
	case c.DeleteWorkerGroup != nil:
		return s.deleteGroup(c, c.DeleteWorkerGroup)
	case c.ForgetWorkerGroup != nil:
		return s.forgetGroup(c, c.ForgetWorkerGroup)
	case c.ChangeNodes != nil:
		return s.changeNodes(c, c.ChangeNodes)
	default:
		return refuse(CodeInvalid, "command of no known kind")
	}
}

func (s *State) initCluster(cmd *InitCluster) *Refusal {
	if s.ClusterID != "" {
		return refuse(CodeConflict, "the cluster is %s already", s.ClusterID)
	}
	if cmd.ClusterID == "" {
		return refuse(CodeInvalid, "a cluster needs an id")
	}
	s.ClusterID = cmd.ClusterID
	return nil
}

func (s *State) deploy(c Command, cmd *Deploy) *Refusal {
	if len(cmd.Applications) == 0 && len(cmd.WorkerGroups) == 0 {
		return refuse(CodeInvalid, "nothing to deploy")
	}
	before := s.WorkerGroups
	// The groups come first: a deployment may name one that comes with it.
	if refusal := s.deployGroups(c, cmd); refusal != nil {
		return refusal
	}
	seen := map[string]bool{}
	for _, in := range cmd.Applications {
		if refusal := in.sound(); refusal != nil {
			return refusal
		}
		if seen[in.Spec.Name] {
			return refuse(CodeInvalid, "application %q is there twice", in.Spec.Name)
		}
		seen[in.Spec.Name] = true
		if refusal := s.groupsOf(in.Spec); refusal != nil {
			return refusal
		}
		if refusal := s.deployOne(c, cmd, in); refusal != nil {
			return refusal
		}
	}
	s.moveAlong(c, cmd, before)
	return s.routeClash()
}

// sound refuses what Apply itself could stumble over. Whether a spec makes
// sense was the proposer's to check.
func (in DeployApplication) sound() *Refusal {
	if in.Spec == nil || in.Spec.Name == "" {
		return refuse(CodeInvalid, "an application needs a spec with a name")
	}
	seen := map[string]bool{}
	for _, d := range in.Spec.Deployments {
		switch {
		case d == nil || d.Name == "":
			return refuse(CodeInvalid, "application %q: a deployment needs a name", in.Spec.Name)
		case seen[d.Name]:
			return refuse(CodeInvalid, "application %q: deployment %q is there twice", in.Spec.Name, d.Name)
		case d.NumReplicas < 0:
			return refuse(CodeInvalid, "application %q: deployment %q: replicas cannot be %d", in.Spec.Name, d.Name, d.NumReplicas)
		case in.Hashes[d.Name] == "":
			return refuse(CodeInvalid, "application %q: deployment %q has no version", in.Spec.Name, d.Name)
		}
		seen[d.Name] = true
	}
	return nil
}

func (s *State) deployOne(c Command, cmd *Deploy, in DeployApplication) *Refusal {
	old := s.Applications[in.Spec.Name]
	if refusal := old.checkIndex(in.Spec.Name, in.CheckIndex); refusal != nil {
		return refusal
	}
	v := &Version{Number: 1, Spec: in.Spec, Hashes: in.Hashes, By: c.By, Message: cmd.Message, At: c.At}
	s.want(c, old, v, cmd.Rollouts > 0)
	return nil
}

// checkIndex refuses a change that was decided on another state than a's, which
// may be nil.
func (a *Application) checkIndex(name string, want *uint64) *Refusal {
	if want == nil || modifyIndex(a) == *want {
		return nil
	}
	return refuse(CodeConflict, "application %q changed since: its index is %d, not %d%s", name, modifyIndex(a), *want, lastChange(a))
}

// want makes v the wanted version of its application, which is old so far; nil:
// there is none. The command may be from before there were strategies.
func (s *State) want(c Command, old *Application, v *Version, strategies bool) {
	name := v.Spec.Name
	v.Unproven, v.Shapes = strategies, s.shapesOf(v.Spec)
	if v.Replicas == nil {
		v.Replicas = map[string]int{}
		for _, d := range v.Spec.Deployments {
			v.Replicas[d.Name] = old.targetOf(d)
		}
	}
	if old.unchangedBy(v) {
		return
	}
	app := &Application{
		Name: name, Serving: v, Wanted: v, CreateIndex: s.Index, ModifyIndex: s.Index,
		Rollout: Rollout{Status: RolloutRunning, StartedAt: c.At},
	}
	if old != nil {
		v.Number = old.Wanted.Number + 1
		app.CreateIndex = old.CreateIndex
		app.History = appendBounded(old.History, History{Version: old.Wanted, Rollout: old.Rollout}, maxHistory)
	}
	if strategies {
		app.Rollout.StageAt = c.At
	}
	switch {
	case old == nil || old.Deleting:
	case strategies:
		app.follow(old, c, s.moves(old.Serving, v))
	case !sameReplicas(old.Serving, v):
		app.Serving = old.Serving
	}
	app.Scalings = old.scalingsThatHold(app)
	s.Applications[name] = app
	s.event(c, "deployed", name, "", withMessage(fmt.Sprintf("version %d", v.Number)+app.Rollout.how(), v.Message))
}

// unchangedBy says whether v asks for nothing but what a already is or is on
// its way to be.
func (a *Application) unchangedBy(v *Version) bool {
	return a != nil && !a.Deleting && a.Rollout.Status != RolloutFailed &&
		maps.Equal(a.Wanted.Hashes, v.Hashes) && maps.Equal(a.Wanted.Replicas, v.Replicas) && maps.Equal(a.Wanted.Shapes, v.Shapes) &&
		sameJSON(a.Wanted.Spec, v.Spec)
}

// sameJSON compares parts of specs as they are written down: a server that
// restored a snapshot has nil where one that replayed the log has an empty
// list, and both must decide alike.
func sameJSON[T any](a, b *T) bool {
	asJSON, errA := json.Marshal(a)
	bsJSON, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(asJSON, bsJSON)
}

// sameReplicas says whether going from a to b starts and stops no replica
// because of what it runs, only because of how many: such a change is live.
func sameReplicas(a, b *Version) bool {
	return a.Spec.Ingress == b.Spec.Ingress && maps.Equal(a.Hashes, b.Hashes) && len(movedGroups(a, b)) == 0
}

// routeClash refuses two applications on one route_prefix: which of them a
// request belongs to would be chance.
func (s *State) routeClash() *Refusal {
	holder := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Applications)) {
		app := s.Applications[name]
		if app.Deleting {
			continue
		}
		for _, prefix := range slices.Compact([]string{app.Serving.Spec.RoutePrefix, app.Wanted.Spec.RoutePrefix}) {
			if other, taken := holder[prefix]; taken && other != name {
				return refuse(CodeConflict, "route_prefix %q is taken: applications %q and %q both ask for it", prefix, other, name)
			}
			holder[prefix] = name
		}
	}
	return nil
}

func (s *State) delete(c Command, cmd *Delete) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil {
		return refusal
	}
	app.Deleting = true
	s.put(app)
	s.event(c, "deleting", cmd.Application, "", withMessage("no more traffic; replicas stop", cmd.Message))
	return nil
}

func (s *State) forget(c Command, cmd *Forget) *Refusal {
	app := s.Applications[cmd.Application]
	if app == nil || !app.Deleting {
		return refuse(CodeConflict, "application %q is not being deleted", cmd.Application)
	}
	delete(s.Applications, cmd.Application)
	s.event(c, "deleted", cmd.Application, "", "nothing of it is left in Nomad or Consul")
	return nil
}

// live returns a copy of the named application that apply may change.
func (s *State) live(name string) (*Application, *Refusal) {
	app := s.Applications[name]
	if app == nil || app.Deleting {
		return nil, refuse(CodeNotFound, "no application %q", name)
	}
	copied := *app
	return &copied, nil
}

func (s *State) put(app *Application) {
	app.ModifyIndex = s.Index
	s.Applications[app.Name] = app
}

func (s *State) receipt(id string) (Result, bool) {
	if id == "" {
		return Result{}, false
	}
	for _, r := range s.Recent {
		if r.ID == id {
			return r.Result, true
		}
	}
	return Result{}, false
}

// appendBounded returns a copy of list with v at its end and at most limit
// long: published States share the old array.
func appendBounded[T any](list []T, v T, limit int) []T {
	from := max(0, len(list)+1-limit)
	return append(slices.Clone(list[from:]), v)
}

func refuse(code ErrorCode, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

func modifyIndex(app *Application) uint64 {
	if app == nil || app.Deleting {
		return 0
	}
	return app.ModifyIndex
}

// lastChange says what app is by now, and who made it so.
func lastChange(app *Application) string {
	if app == nil {
		return ""
	}
	by := ""
	if app.Wanted.By != "" {
		by = " by " + app.Wanted.By
	}
	return fmt.Sprintf(" (version %d%s)", app.Wanted.Number, by)
}

func withMessage(what, message string) string {
	if message == "" {
		return what
	}
	return what + ": " + message
}

func names(spec *appspec.Application) string {
	var list []string
	for _, d := range spec.Deployments {
		list = append(list, d.Name)
	}
	return strings.Join(list, ", ")
}
