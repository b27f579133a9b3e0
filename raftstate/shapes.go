package raftstate

import (
	"fmt"
	"maps"
	"slices"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// Shape is a worker group as it was while its nodes were made as they are. It
// is kept while there are nodes of it, or replicas that a rollout may leave
// there.
type Shape struct {
	Number int                  `json:"number"`
	Spec   *appspec.WorkerGroup `json:"spec"`
}

// maxFormer is how many earlier shapes a group may have nodes of.
const maxFormer = 8

// Outdated says whether a node was ordered with another shape than its group's
// nodes have now.
func (g *WorkerGroup) Outdated(n *Node) bool { return n.Shape != g.Shape }

// SpecOf returns what a node of the group was made by: its shape at that time,
// and all else as it is now.
func (g *WorkerGroup) SpecOf(n *Node) *appspec.WorkerGroup {
	if i := g.former(n.Shape); i >= 0 && g.Outdated(n) {
		return g.Spec.WithShapeOf(g.Former[i].Spec)
	}
	return g.Spec
}

// former returns which of the earlier shapes has a number; -1: none.
func (g *WorkerGroup) former(number int) int {
	return slices.IndexFunc(g.Former, func(f Shape) bool { return f.Number == number })
}

// reshape gives the group, which is the caller's own, the number of the shape
// that its spec has now: a former one's if that is alike, so that its nodes are
// in use again, or a new one. Without nodes nothing is of the old shape that
// could not be of the new one.
func (s *State) reshape(group, old *WorkerGroup) *Refusal {
	group.Shape, group.LastShape, group.Former = old.Shape, old.LastShape, old.Former
	if len(old.Spec.Reshaped(group.Spec)) == 0 {
		return nil
	}
	n := s.nodesOf(old.Name)
	switch back := slices.IndexFunc(old.Former, func(f Shape) bool { return len(f.Spec.Reshaped(group.Spec)) == 0 }); {
	case n == 0 && back < 0:
		return nil
	case n > 0 && group.makesNone() != "":
		return refuse(CodeConflict, "worker group %q: %s cannot change while it has %s and %s: nothing would take their place",
			group.Name, some(old.Spec.Reshaped(group.Spec)), nodes(n), group.makesNone())
	case back >= 0:
		group.reshapeTo(old, old.Former[back].Number)
	case len(old.Former) >= maxFormer:
		return refuse(CodeConflict, "worker group %q still has nodes of %d earlier shapes: wait until some of them are gone", group.Name, len(old.Former))
	default:
		group.LastShape++
		group.reshapeTo(old, group.LastShape)
	}
	return nil
}

// reshapeTo moves the group on from old's shape to another.
func (g *WorkerGroup) reshapeTo(old *WorkerGroup, number int) {
	g.Shape = number
	g.Former = slices.DeleteFunc(slices.Clone(old.Former), func(f Shape) bool { return f.Number == number })
	g.Former = append(g.Former, Shape{old.Shape, old.Spec})
}

// makesNone says why the group orders no nodes; "": it does.
func (g *WorkerGroup) makesNone() string {
	switch {
	case g.Spec.Target.Kind == appspec.TargetNone:
		return "its target, none, makes no nodes"
	case g.Spec.DryRun:
		return "dry_run is set"
	default:
		return ""
	}
}

// prune forgets the earlier shapes of a group that nothing is of any more: no
// node, and no replicas that a running rollout may leave there.
func (s *State) prune(name string) {
	group := s.WorkerGroups[name]
	if group == nil || len(group.Former) == 0 {
		return
	}
	used := map[int]bool{}
	for _, n := range s.Nodes {
		if n.Group == name {
			used[n.Shape] = true
		}
	}
	for _, app := range s.Applications {
		if !app.Deleting && app.RollingOut() && app.Serving.runsIn(name) {
			used[app.Serving.Shapes[name]] = true
		}
	}
	left := slices.DeleteFunc(slices.Clone(group.Former), func(f Shape) bool { return !used[f.Number] })
	if len(left) == len(group.Former) {
		return
	}
	copied := *group
	copied.Former = slices.Clip(left)
	if len(left) == 0 {
		copied.Former = nil
	}
	s.WorkerGroups = cloned(s.WorkerGroups)
	s.WorkerGroups[name] = &copied
}

// shapesOf returns the shapes that the nodes of a spec's worker groups are to
// have; a first shape is not named.
func (s *State) shapesOf(spec *appspec.Application) map[string]int {
	var shapes map[string]int
	for _, d := range spec.Deployments {
		group := s.WorkerGroups[d.WorkerGroup]
		if d.WorkerGroup == "" || group == nil || group.Shape == 0 {
			continue
		}
		if shapes == nil {
			shapes = map[string]int{}
		}
		shapes[d.WorkerGroup] = group.Shape
	}
	return shapes
}

// runsIn says whether a deployment of v names a worker group.
func (v *Version) runsIn(group string) bool {
	return slices.ContainsFunc(v.Spec.Deployments, func(d *appspec.Deployment) bool { return d.WorkerGroup == group })
}

// movedGroups returns the worker groups that both versions run in, and in which
// b is to run on nodes of another shape than a does.
func movedGroups(a, b *Version) []string {
	var names []string
	for _, d := range b.Spec.Deployments {
		if g := d.WorkerGroup; g != "" && a.runsIn(g) && a.Shapes[g] != b.Shapes[g] && !slices.Contains(names, g) {
			names = append(names, g)
		}
	}
	slices.Sort(names)
	return names
}

// moves says why the replicas of v are to run on other nodes than those of from,
// though not in other worker groups; "": they are not.
func (s *State) moves(from, v *Version) string {
	names := movedGroups(from, v)
	if len(names) == 0 {
		return ""
	}
	group := s.WorkerGroups[names[0]]
	what := "its nodes have another shape now"
	if i := group.former(from.Shapes[group.Name]); i >= 0 {
		what = some(group.Former[i].Spec.Reshaped(group.Spec)) + " changed"
	}
	which := "worker group " + group.Name
	if more := len(names) - 1; more > 0 {
		which += fmt.Sprintf(" and %d more", more)
	}
	return which + ": " + what + ": its replicas move to nodes of the new shape"
}

// moveAlong makes new versions of the applications that run in worker groups
// whose shape this command has changed, but for those that it deploys itself.
func (s *State) moveAlong(c Command, cmd *Deploy, before map[string]*WorkerGroup) {
	var changed []string
	for _, in := range cmd.WorkerGroups {
		if old := before[in.Spec.Name]; old != nil && old.Shape != s.WorkerGroups[in.Spec.Name].Shape {
			changed = append(changed, in.Spec.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Applications)) {
		app := s.Applications[name]
		deployed := slices.ContainsFunc(cmd.Applications, func(in DeployApplication) bool { return in.Spec.Name == name })
		from := app.Wanted
		if app.Rollout.Status == RolloutFailed {
			from = app.Serving
		}
		at := slices.IndexFunc(changed, from.runsIn)
		if at < 0 || deployed || app.Deleting {
			continue
		}
		v := &Version{
			Number: 1, Spec: from.Spec, Hashes: maps.Clone(from.Hashes), Replaced: maps.Clone(from.Replaced), Replicas: map[string]int{},
			By: c.By, At: c.At, Message: withMessage("deployed with worker group "+changed[at], cmd.Message),
		}
		for _, d := range from.Spec.Deployments {
			v.Replicas[d.Name] = app.Target(d.Name)
		}
		s.want(c, app, v, true)
	}
}

// move makes the rollout one of a new generation: what runs on nodes of one shape
// is not what runs on those of another, even if it is alike.
func (r *Rollout) move(spec *appspec.Application, why string) {
	if r.Strategy != appspec.StrategyLive {
		why += "; " + r.Why
	}
	asked := appspec.StrategyBlueGreen
	if spec.Rollout != nil && appspec.Strategy(spec.Rollout.Strategy).Generations() {
		asked = appspec.Strategy(spec.Rollout.Strategy)
	}
	r.Strategy, r.Why = asked, why
}

// settleShapes sees to the worker groups of app when its rollout has ended.
func (s *State) settleShapes(c Command, app *Application) {
	if app.Rollout.Status == RolloutRunning {
		return
	}
	if app.Rollout.Status == RolloutFailed && !app.Serving.Unproven {
		s.reshapeBack(c, app)
	}
	for _, d := range app.Wanted.Spec.Deployments {
		s.prune(d.WorkerGroup)
	}
}

// reshapeBack gives worker groups their earlier shape again when the rollout
// of app onto the present one has failed, and nobody else runs there: what
// serves is on nodes of the earlier shape, and is to be able to grow there.
func (s *State) reshapeBack(c Command, app *Application) {
	for _, name := range movedGroups(app.Serving, app.Wanted) {
		group := s.WorkerGroups[name]
		at := group.former(app.Serving.Shapes[name])
		if group.Deleting || group.Shape != app.Wanted.Shapes[name] || at < 0 || s.othersOn(app, group) {
			continue
		}
		was := group.Former[at]
		copied := *group
		copied.Spec = group.Spec.WithShapeOf(was.Spec)
		copied.reshapeTo(group, was.Number)
		copied.Failures, copied.ModifyIndex, copied.At = Failures{}, s.Index, c.At
		s.WorkerGroups = cloned(s.WorkerGroups)
		s.WorkerGroups[name] = &copied
		s.groupEvent(c, "group-rolled-back", name, fmt.Sprintf("%s as before version %d of application %s, which failed on nodes of the new shape",
			some(group.Spec.Reshaped(copied.Spec)), app.Wanted.Number, app.Name))
	}
}

// othersOn says whether another application serves on nodes of a group's present
// shape, or is on its way there.
func (s *State) othersOn(app *Application, group *WorkerGroup) bool {
	for _, other := range s.Applications {
		if other.Name == app.Name || other.Deleting {
			continue
		}
		for _, v := range other.versions() {
			failed := v.Number != other.Serving.Number && other.Rollout.Status == RolloutFailed
			if !failed && v.runsIn(group.Name) && v.Shapes[group.Name] == group.Shape {
				return true
			}
		}
	}
	return false
}
