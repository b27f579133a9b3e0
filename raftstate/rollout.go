package raftstate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// follow plans how a, whose wanted version is new, takes over from what old is.
// moves is why its replicas are to run on other nodes; "": they are not.
func (a *Application) follow(old *Application, c Command, moves string) {
	v, base := a.Wanted, old.Serving
	a.Leaving = slices.Clone(old.Leaving)
	if old.RollingOut() {
		a.leave(Leaving{Version: old.Wanted, At: c.At, Cause: LeavingSuperseded, Weight: old.generationWeight()})
	}
	a.Rollout.StageAt = c.At
	for name, hash := range base.Replaced {
		if _, own := v.Replaced[name]; !own && v.Hashes[name] == base.Hashes[name] {
			if v.Replaced == nil {
				v.Replaced = map[string]string{}
			}
			v.Replaced[name] = hash // its job goes on
		}
	}
	if sameReplicas(base, v) {
		v.Generation, v.Unproven = base.Generation, base.Unproven
		a.Rollout.Strategy, a.Rollout.Why = appspec.ChooseStrategy(base.Spec, v.Spec)
		if sameConfigs(base.Spec, v.Spec) {
			return // it serves at once
		}
		v.Unproven, a.Serving = true, base
		a.Rollout.Strategy = appspec.StrategyLive
		return
	}
	a.Serving = base
	r := &a.Rollout
	r.Strategy, r.Why = appspec.ChooseStrategy(base.Spec, v.Spec)
	switch {
	case moves != "":
		r.move(v.Spec, moves)
	case r.Strategy == appspec.StrategyLive: // hashes by another release of the proposer
		r.Strategy, r.Why = appspec.StrategyRolling, "the deployment versions changed"
	}
	if base.Unproven {
		// There is nothing to compare it with, and nothing to keep.
		if r.Strategy == appspec.StrategyCanary {
			r.Strategy = appspec.StrategyBlueGreen
		}
		r.Promoted = true
		r.Why += fmt.Sprintf("; version %d has not been healthy yet, so nothing is waited for", base.Number)
	}
	v.Generation = a.generation(old)
}

// generation returns the generation of a's wanted version: a new one if the
// strategy asks for it, unless there is one that it can go on with.
func (a *Application) generation(old *Application) int {
	base := old.Serving
	if !a.Rollout.Strategy.Generations() {
		return base.Generation
	}
	for i, l := range slices.Backward(a.Leaving) {
		if l.Version.Generation != base.Generation && l.Cause != LeavingFailed && sameReplicas(l.Version, a.Wanted) {
			a.Leaving = slices.Delete(a.Leaving, i, i+1)
			a.Rollout.Weight = l.Weight
			return l.Version.Generation
		}
	}
	if old.RollingOut() && old.Wanted.Generation != base.Generation && old.generationWeight() == 0 && len(movedGroups(old.Wanted, a.Wanted)) == 0 {
		return old.Wanted.Generation // nobody has asked it anything yet
	}
	return a.Wanted.Number
}

// generationWeight is the percent of the requests that goes at most to a
// generation of a's wanted version's own.
func (a *Application) generationWeight() int {
	if a.Wanted.Generation == a.Serving.Generation {
		return 0
	}
	return max(a.Stage().Weight, a.Rollout.Weight)
}

// leave enters a version that is on its way out.
func (a *Application) leave(l Leaving) { a.Leaving = appendBounded(a.Leaving, l, maxLeaving) }

// sameConfigs says whether replicas that take another user_config while they run
// have the same one by both specs.
func sameConfigs(a, b *appspec.Application) bool {
	for _, d := range b.Deployments {
		was := a.Deployment(d.Name)
		if was != nil && appspec.ConfigOf(was) != appspec.ConfigOf(d) {
			return false
		}
	}
	return true
}

// how says the strategy for the list of events.
func (r Rollout) how() string {
	if r.Strategy == "" {
		return ""
	}
	return fmt.Sprintf(", %s: %s", r.Strategy, r.Why)
}

func (s *State) endRollout(c Command, cmd *EndRollout) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil || app.Rollout.Status != RolloutRunning || app.Wanted.Number != cmd.Version {
		return refuse(CodeConflict, "application %q is not rolling out version %d", cmd.Application, cmd.Version)
	}
	switch cmd.Status {
	case RolloutSuccessful, RolloutFailed:
	case RolloutRunning:
		return refuse(CodeInvalid, "a rollout cannot end as running")
	default:
		return refuse(CodeInvalid, "a rollout cannot end as %q", cmd.Status)
	}
	app.end(c, cmd.Status, cmd.Reason, LeavingFailed)
	if cmd.Status == RolloutFailed || app.Rollout.StageAt.IsZero() { // or the log is from before there were stages
		s.put(app)
	} else {
		s.Applications[app.Name] = app // nobody's doing: who deploys next need not have seen it
	}
	s.event(c, "rollout-"+string(cmd.Status), cmd.Application, "", fmt.Sprintf("version %d: %s", cmd.Version, cmd.Reason))
	s.settleShapes(c, app)
	return nil
}

// end ends the rollout of a, which is the caller's own copy. cause is why the
// wanted version leaves, if it does.
func (a *Application) end(c Command, status RolloutStatus, reason string, cause LeavingCause) {
	r := &a.Rollout
	r.Status, r.Reason, r.EndedAt, r.Paused = status, reason, c.At, nil
	old := a.Serving
	if status == RolloutSuccessful {
		proven := *a.Wanted
		proven.Unproven = false
		a.Wanted, a.Serving = &proven, &proven
	}
	switch {
	case r.Strategy == "" || old.Number == a.Wanted.Number:
	case status == RolloutFailed:
		a.leave(Leaving{Version: a.Wanted, At: c.At, Cause: cause, Weight: a.generationWeight()})
	case old.Generation != a.Wanted.Generation:
		a.leave(Leaving{Version: old, At: c.At, Cause: LeavingReplaced})
	}
}

func (s *State) advanceRollout(c Command, cmd *AdvanceRollout) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil || !app.RollingOut() || app.Wanted.Number != cmd.Version || app.Rollout.Stage != cmd.From || app.Rollout.Paused != nil {
		return refuse(CodeConflict, "application %q is not rolling out version %d at stage %d", cmd.Application, cmd.Version, cmd.From)
	}
	if stages := app.Stages(); cmd.To <= cmd.From || cmd.To >= len(stages) {
		return refuse(CodeInvalid, "a rollout with %d stages cannot go from %d to %d", len(stages), cmd.From, cmd.To)
	}
	app.Rollout.Stage, app.Rollout.StageAt = cmd.To, c.At
	// ModifyIndex stays: it goes on as those who deploy next could see.
	s.Applications[app.Name] = app
	s.event(c, "rollout-advanced", app.Name, "", fmt.Sprintf("version %d: %s: %s", cmd.Version, app.Stage().Name, clip(cmd.Reason, maxReason)))
	return nil
}

func (s *State) steerRollout(c Command, cmd *SteerRollout) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil {
		return refusal
	}
	if !app.RollingOut() || cmd.Version != 0 && cmd.Version != app.Wanted.Number {
		return refuse(CodeConflict, "application %q is not rolling out %s: version %d serves", cmd.Application, orAny(cmd.Version), app.Serving.Number)
	}
	kind, message := "", clip(cmd.Message, maxReason)
	r := &app.Rollout
	switch cmd.Action {
	case ActionPause:
		if r.Paused != nil {
			return nil
		}
		r.Paused = &Pause{At: c.At, By: c.By, Reason: message}
		kind = "rollout-paused"
	case ActionResume:
		if r.Paused == nil {
			return nil
		}
		r.resume(c)
		kind = "rollout-resumed"
	case ActionPromote:
		if r.Promoted && r.Paused == nil {
			return nil
		}
		r.resume(c)
		r.Promoted = true
		kind = "rollout-promoted"
	case ActionAbort:
		app.end(c, RolloutFailed, withMessage(strings.TrimSpace("aborted "+by(c.By)), message), LeavingAborted)
		kind = "rollout-" + string(RolloutFailed)
		message = app.Rollout.Reason
	default:
		return refuse(CodeInvalid, "a rollout cannot be told to %q: it takes %s, %s, %s and %s", cmd.Action, ActionPause, ActionResume, ActionPromote, ActionAbort)
	}
	s.put(app)
	s.event(c, kind, app.Name, "", withMessage(fmt.Sprintf("version %d", app.Wanted.Number), message))
	s.settleShapes(c, app)
	return nil
}

// resume lets the rollout go on. The pause does not count as time in its stage.
func (r *Rollout) resume(c Command) {
	if r.Paused == nil {
		return
	}
	r.StageAt = r.StageAt.Add(max(0, c.At.Sub(r.Paused.At)))
	r.Paused = nil
}

func orAny(version int) string {
	if version == 0 {
		return "a version"
	}
	return "version " + strconv.Itoa(version)
}

func by(name string) string {
	if name == "" {
		return ""
	}
	return "by " + name
}

// rollback deploys an earlier version's spec anew.
func (s *State) rollback(c Command, cmd *Rollback) *Refusal {
	old, refusal := s.live(cmd.Application)
	if refusal != nil {
		return refusal
	}
	if refusal := old.checkIndex(cmd.Application, cmd.CheckIndex); refusal != nil {
		return refusal
	}
	to, refusal := old.earlier(cmd.Version)
	if refusal != nil {
		return refusal
	}
	if refusal := s.groupsOf(to.Spec); refusal != nil {
		return refusal
	}
	v := &Version{
		Number: 1, Spec: to.Spec, Hashes: maps.Clone(to.Hashes), Replaced: maps.Clone(to.Replaced), By: c.By, At: c.At,
		Message: withMessage(fmt.Sprintf("rollback to version %d", to.Number), clip(cmd.Message, maxReason)),
	}
	if v.Shapes = s.shapesOf(v.Spec); old.RollingOut() && to.Number == old.Serving.Number && s.moves(to, v) != "" {
		// It serves, on the nodes that it has: it is not to be moved as well.
		return s.steerRollout(c, &SteerRollout{Application: old.Name, Action: ActionAbort, Message: v.Message})
	}
	s.want(c, old, v, true)
	return s.routeClash()
}

// earlier returns the version to go back to; 0: what serves if another one is on
// its way, or else the last one that served before it with another spec.
func (a *Application) earlier(number int) (*Version, *Refusal) {
	if number == 0 {
		if a.differs() {
			return a.Serving, nil
		}
		for _, h := range slices.Backward(a.History) {
			if !h.Version.Unproven && h.Rollout.Status != RolloutFailed && !sameJSON(h.Version.Spec, a.Serving.Spec) {
				return h.Version, nil
			}
		}
		return nil, refuse(CodeNotFound, "application %q has no earlier version that was healthy; %s", a.Name, a.kept())
	}
	if a.Wanted.Number == number {
		return a.Wanted, nil
	}
	for _, h := range a.History {
		if h.Version.Number == number {
			return h.Version, nil
		}
	}
	return nil, refuse(CodeNotFound, "application %q has no version %d; %s", a.Name, number, a.kept())
}

// kept says which versions there are to go back to.
func (a *Application) kept() string {
	var numbers []string
	for _, h := range a.History {
		text := strconv.Itoa(h.Version.Number)
		if h.Version.Unproven || h.Rollout.Status == RolloutFailed {
			text += " (never healthy)"
		}
		numbers = append(numbers, text)
	}
	if len(numbers) == 0 {
		return fmt.Sprintf("there is version %d alone", a.Wanted.Number)
	}
	return fmt.Sprintf("there are %s, and the newest, %d", strings.Join(numbers, ", "), a.Wanted.Number)
}

func (s *State) forgetVersion(c Command, cmd *ForgetVersion) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil {
		return refusal
	}
	at := slices.IndexFunc(app.Leaving, func(l Leaving) bool { return l.Version.Number == cmd.Version })
	if at < 0 {
		return refuse(CodeConflict, "version %d of application %q is not leaving", cmd.Version, cmd.Application)
	}
	app.Leaving = slices.Delete(slices.Clone(app.Leaving), at, at+1)
	s.Applications[app.Name] = app
	s.event(c, "version-gone", app.Name, "", fmt.Sprintf("version %d: %s", cmd.Version, clip(cmd.Reason, maxReason)))
	return nil
}

// refuseConfig turns a change that running replicas did not take into one with
// new replicas.
func (s *State) refuseConfig(c Command, cmd *RefuseConfig) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil || !app.RollingOut() || app.Wanted.Number != cmd.Version {
		return refuse(CodeConflict, "application %q is not changing a user_config to version %d", cmd.Application, cmd.Version)
	}
	v := *app.Wanted
	v.Replaced = maps.Clone(v.Replaced)
	if v.Replaced == nil {
		v.Replaced = map[string]string{}
	}
	for name, hash := range cmd.Hashes {
		if v.Spec.Deployment(name) == nil || hash == "" {
			return refuse(CodeInvalid, "version %d of application %q has no deployment %q", cmd.Version, cmd.Application, name)
		}
		v.Replaced[name] = hash
	}
	app.Wanted = &v
	reason := clip(cmd.Reason, maxReason)
	if r := &app.Rollout; r.Strategy == appspec.StrategyLive {
		r.Strategy, r.Why, r.Stage, r.StageAt = appspec.StrategyRolling, reason, 0, c.At
	}
	s.put(app)
	s.event(c, "config-refused", app.Name, "", fmt.Sprintf("version %d: new replicas take over: %s", cmd.Version, reason))
	return nil
}
