package raftstate

import (
	"fmt"
	"maps"
	"unicode/utf8"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// ByAutoscaler is who Scaling and Event name for what an Autoscale did.
const ByAutoscaler = "autoscaler"

// Deployment returns the named deployment by the spec that is in force: the
// newest version's until that has failed, then the serving one's. What only the
// other version has is as that one has it: it takes traffic until the rollout
// is over. It returns nil when neither has it.
func (a *Application) Deployment(name string) *appspec.Deployment {
	v := a.inForce(name)
	if v == nil {
		return nil
	}
	return v.Spec.Deployment(name)
}

// Target returns how many replicas of a deployment are wanted, by the spec that
// Deployment goes by. During a rollout the other version may have more or
// fewer, where its own bounds ask for it.
func (a *Application) Target(deployment string) int {
	v := a.inForce(deployment)
	if v == nil {
		return 0
	}
	return v.Replicas[deployment]
}

// inForce returns the version whose spec counts for a deployment.
func (a *Application) inForce(deployment string) *Version {
	first, second := a.Wanted, a.Serving
	if a.Rollout.Status == RolloutFailed {
		first, second = second, first
	}
	switch {
	case first.Spec.Deployment(deployment) != nil:
		return first
	case second.Spec.Deployment(deployment) != nil:
		return second
	default:
		return nil
	}
}

// targetOf returns the target of d when it is deployed over a, which may be
// nil. What scales by itself, or from outside, keeps the target that it has:
// a deploy is no reason to lose the replicas that the load needs.
func (a *Application) targetOf(d *appspec.Deployment) int {
	block := d.Autoscaling
	if block == nil {
		return d.NumReplicas
	}
	target := d.FirstReplicas()
	if a != nil && !a.Deleting {
		was := a.Deployment(d.Name)
		anew := was == nil || block.InitialReplicas != nil && !sameJSON(was.Autoscaling, block)
		if !anew {
			target = a.Target(d.Name)
		}
	}
	return within(block, target)
}

// scalingsThatHold returns those of a's scalings whose target next still has. a
// may be nil.
func (a *Application) scalingsThatHold(next *Application) map[string]Scaling {
	if a == nil || a.Deleting {
		return nil
	}
	var kept map[string]Scaling
	for name, scaling := range a.Scalings {
		if next.Deployment(name) == nil || next.Target(name) != scaling.To {
			continue
		}
		if kept == nil {
			kept = map[string]Scaling{}
		}
		kept[name] = scaling
	}
	return kept
}

func (s *State) scale(c Command, cmd *Scale) *Refusal {
	app, refusal := s.live(cmd.Application)
	if refusal != nil {
		return refusal
	}
	d := app.Deployment(cmd.Deployment)
	if d == nil {
		return refuse(CodeNotFound, "application %q has no deployment %q; it has %s", cmd.Application, cmd.Deployment, names(app.Wanted.Spec))
	}
	if refusal := cmd.outOfBounds(d); refusal != nil {
		return refusal
	}
	from, external := app.Target(cmd.Deployment), d.Autoscaling != nil
	if external && from == cmd.Replicas {
		return nil // who scales from outside may say the same again and again
	}
	app = app.scalable()
	for _, v := range app.versions() {
		if own := v.Spec.Deployment(cmd.Deployment); own != nil {
			v.Replicas[cmd.Deployment] = within(own.Autoscaling, cmd.Replicas)
		}
	}
	app.Scalings[cmd.Deployment] = Scaling{
		At: c.At, By: clip(c.By, maxScalingBy), From: from, To: cmd.Replicas, Reason: clip(cmd.Message, maxScalingReason),
	}
	kind := "scaled"
	if external {
		// A deploy keeps this target, so nobody needs to be told of it first,
		// and a program sets it, maybe often.
		kind = eventAutoscaled
		s.Applications[app.Name] = app
	} else {
		s.put(app)
	}
	s.event(c, kind, cmd.Application, cmd.Deployment, scaled(from, cmd.Replicas, cmd.Message))
	return nil
}

// outOfBounds refuses a count that d may not be given by hand.
func (cmd *Scale) outOfBounds(d *appspec.Deployment) *Refusal {
	if ScalesByItself(d) {
		advice := "change its autoscaling block instead"
		if d.Autoscaling.Policy != "" { // as specs from before there were policies have it, whose logs hold this text
			advice += fmt.Sprintf(", or set policy = %q there to scale it from outside", appspec.PolicyExternal)
		}
		return refuse(CodeConflict, "deployment %q scales by itself: %s", cmd.Deployment, advice)
	}
	if cmd.Replicas < 0 {
		return refuse(CodeInvalid, "replicas cannot be %d", cmd.Replicas)
	}
	if within(d.Autoscaling, cmd.Replicas) != cmd.Replicas {
		least, most := bounds(d.Autoscaling)
		return refuse(CodeInvalid, "deployment %q can have %d to %d replicas by its autoscaling block, not %d", cmd.Deployment, least, most, cmd.Replicas)
	}
	return nil
}

// autoscale makes those of the changes that can be made. None is no error, and
// ModifyIndex stays: a deploy keeps the targets, so whoever deploys need not
// have seen the last of them.
func (s *State) autoscale(c Command, cmd *Autoscale) *Refusal {
	c.By = ByAutoscaler
	ours := map[string]bool{} // applications that are copies of this command's own
	var events []Event
	for _, change := range cmd.Changes {
		app := s.Applications[change.Application]
		if !change.possible(app) {
			continue
		}
		if !ours[app.Name] {
			app, ours[app.Name] = app.scalable(), true
			s.Applications[app.Name] = app
		}
		reason := clip(change.Reason, maxScalingReason)
		app.autoscale(change)
		app.Scalings[change.Deployment] = Scaling{At: c.At, By: c.By, From: change.From, To: change.To, Reason: reason}
		events = append(events, s.newEvent(c, eventAutoscaled, app.Name, change.Deployment, scaled(change.From, change.To, reason)))
	}
	s.addEvents(events...)
	return nil
}

// possible says whether a change can be made to app as it is by now. What scales
// from outside has a change of bounds to follow too, when a schedule begins.
func (change AutoscaleChange) possible(app *Application) bool {
	if app == nil || app.Deleting || change.To == change.From {
		return false
	}
	if change.Version != 0 && change.Version != app.Wanted.Number {
		return false // by another block, whose policy may not be to correct it
	}
	d := app.Deployment(change.Deployment)
	return d != nil && d.Autoscaling != nil && app.Target(change.Deployment) == change.From && within(d.Autoscaling, change.To) == change.To
}

// autoscale makes a change to a, which is a copy of the caller's own. During a
// rollout the other version follows: the old one carries the load until the new
// one takes over. It goes the same way, if at all, and within its own bounds; what
// does not scale there stays.
func (a *Application) autoscale(change AutoscaleChange) {
	force := a.inForce(change.Deployment)
	for _, v := range a.versions() {
		own := v.Spec.Deployment(change.Deployment)
		switch {
		case v == force:
			v.Replicas[change.Deployment] = change.To
		case own == nil || own.Autoscaling == nil:
		case change.To > change.From:
			v.Replicas[change.Deployment] = within(own.Autoscaling, max(v.Replicas[change.Deployment], change.To))
		default:
			v.Replicas[change.Deployment] = within(own.Autoscaling, min(v.Replicas[change.Deployment], change.To))
		}
	}
}

// scalable returns a copy of a whose targets and scalings may be changed.
func (a *Application) scalable() *Application {
	copied := *a
	copied.Wanted = a.Wanted.scalable()
	copied.Serving = copied.Wanted
	if a.Serving.Number != a.Wanted.Number { // not the pointers: a restored snapshot may have two
		copied.Serving = a.Serving.scalable()
	}
	copied.Scalings = map[string]Scaling{}
	maps.Copy(copied.Scalings, a.Scalings)
	return &copied
}

func (v *Version) scalable() *Version {
	copied := *v
	copied.Replicas = map[string]int{}
	maps.Copy(copied.Replicas, v.Replicas)
	return &copied
}

// versions returns the versions that may run, each once.
func (a *Application) versions() []*Version {
	if a.Serving == a.Wanted {
		return []*Version{a.Wanted}
	}
	return []*Version{a.Serving, a.Wanted}
}

// ScalesByItself says whether the autoscaler sets the target of d, which may be
// nil: not with a block whose policy is external.
func ScalesByItself(d *appspec.Deployment) bool {
	return d != nil && d.Autoscaling != nil && d.Autoscaling.EffectivePolicy() != appspec.PolicyExternal
}

// bounds returns the least and the most that a block can ask for at any time,
// whatever its schedules say by then: Apply knows no clock to hold it to more.
func bounds(block *appspec.Autoscaling) (least, most int) {
	least, most = block.MinReplicas, block.MaxReplicas
	for _, schedule := range block.Schedules {
		if schedule == nil {
			continue
		}
		for _, bound := range []*int{schedule.MinReplicas, schedule.MaxReplicas} {
			if bound != nil {
				least, most = min(least, *bound), max(most, *bound)
			}
		}
	}
	return max(0, least), max(0, most)
}

// within returns n, or the bound of the block that it is beyond. There is none
// without a block.
func within(block *appspec.Autoscaling, n int) int {
	if block == nil {
		return n
	}
	least, most := bounds(block)
	return max(least, min(most, n))
}

// scaled says a change of a target for the list of events.
func scaled(from, to int, why string) string {
	return withMessage(fmt.Sprintf("%d -> %d replicas", from, to), why)
}

// clip cuts text to at most limit bytes, at a character.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	const mark = "..."
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}
