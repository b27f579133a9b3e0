package raftstate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func (s *State) deployGroups(c Command, cmd *Deploy) *Refusal {
	if len(cmd.WorkerGroups) == 0 {
		return nil
	}
	s.WorkerGroups = cloned(s.WorkerGroups)
	seen := map[string]bool{}
	for _, in := range cmd.WorkerGroups {
		if refusal := soundGroup(in.Spec); refusal != nil {
			return refusal
		}
		if seen[in.Spec.Name] {
			return refuse(CodeInvalid, "worker group %q is there twice", in.Spec.Name)
		}
		seen[in.Spec.Name] = true
		if refusal := s.deployGroup(c, cmd, in); refusal != nil {
			return refusal
		}
	}
	return s.poolClash()
}

// soundGroup refuses what Apply, or whoever reads a State, could stumble over.
func soundGroup(g *appspec.WorkerGroup) *Refusal {
	switch {
	case g == nil || g.Name == "":
		return refuse(CodeInvalid, "a worker group needs a spec with a name")
	case g.NodePool == "":
		return refuse(CodeInvalid, "worker group %q: it needs a node_pool", g.Name)
	case g.MinNodes < 0 || g.MaxNodes < g.MinNodes:
		return refuse(CodeInvalid, "worker group %q: it cannot have %d to %d nodes", g.Name, g.MinNodes, g.MaxNodes)
	case slices.Contains(g.Schedules, nil) || slices.Contains(g.Prefetch, nil):
		return refuse(CodeInvalid, "worker group %q: a schedule or prefetch block holds nothing", g.Name)
	case g.ScaleDown != nil && slices.Contains(g.ScaleDown.Windows, nil):
		return refuse(CodeInvalid, "worker group %q: a window block holds nothing", g.Name)
	default:
		return nil
	}
}

func (s *State) deployGroup(c Command, cmd *Deploy, in DeployWorkerGroup) *Refusal {
	name := in.Spec.Name
	old := s.WorkerGroups[name]
	if old != nil && old.Deleting {
		return refuse(CodeConflict, "worker group %q is being deleted: deploy it again once its nodes are gone", name)
	}
	if in.CheckIndex != nil {
		if have := groupIndex(old); have != *in.CheckIndex {
			return refuse(CodeConflict, "worker group %q changed since: its index is %d, not %d%s",
				name, have, *in.CheckIndex, lastGroupChange(old))
		}
	}
	group := &WorkerGroup{
		Name: name, Spec: in.Spec, By: c.By, Message: cmd.Message, At: c.At,
		CreateIndex: s.Index, ModifyIndex: s.Index,
	}
	if old != nil {
		if sameJSON(old.Spec, in.Spec) {
			return nil
		}
		if refusal := s.fixed(cmd, old.Spec, in.Spec); refusal != nil {
			return refusal
		}
		// The failures are forgotten: the change may well be what mends them.
		group.CreateIndex, group.Usage = old.CreateIndex, old.Usage
		if refusal := s.reshape(group, old); refusal != nil {
			return refusal
		}
	}
	s.WorkerGroups[name] = group
	s.prune(name)
	s.groupEvent(c, "group-deployed", name, withMessage(
		fmt.Sprintf("%d to %d nodes of node pool %s", in.Spec.MinNodes, in.Spec.MaxNodes, in.Spec.NodePool), cmd.Message))
	return nil
}

// fixed refuses a change of what cannot change while something depends on it:
// nodes that are told by it from others, or are to be removed by it, or jobs
// that look for them where the old spec says. Commands from before a change of
// the shape was a rollout change no shape either.
func (s *State) fixed(cmd *Deploy, old, spec *appspec.WorkerGroup) *Refusal {
	fields := old.Remade(spec)
	if cmd.Rollouts < RolloutsOfNodes {
		fields = append(fields, old.Reshaped(spec)...)
	}
	if n := s.nodesOf(old.Name); n > 0 && len(fields) > 0 {
		return refuse(CodeConflict, "worker group %q: %s cannot change while it has %s, which were made as it was. "+
			"Deploy it as a group of another name, or wait until its nodes are gone", old.Name, some(fields), nodes(n))
	}
	users := s.usersOf(old.Name)
	if len(users) == 0 {
		return nil
	}
	for _, f := range []struct{ name, was, is string }{
		{"node_pool", old.NodePool, spec.NodePool},
		{"the class of its nodes", old.Node.Class, spec.Node.Class},
	} {
		if f.was != f.is {
			return refuse(CodeConflict, "worker group %q: %s cannot change from %q to %q while deployments look for its nodes there: %s. "+
				"Deploy it as a group of another name, and let them name that", old.Name, f.name, f.was, f.is, some(users))
		}
	}
	return nil
}

// poolClash refuses two groups whose nodes nothing tells apart. A group that is
// being deleted still has nodes.
func (s *State) poolClash() *Refusal {
	pools := map[string][]string{} // names of the groups so far
	for _, name := range slices.Sorted(maps.Keys(s.WorkerGroups)) {
		spec := s.WorkerGroups[name].Spec
		for _, other := range slices.Backward(pools[spec.NodePool]) {
			if spec.ClashesWith(s.WorkerGroups[other].Spec) != "" {
				return refuse(CodeConflict, "worker groups %q%s and %q%s share node pool %q: give the nodes of each a class of its own, or each group a pool",
					other, s.going(other), name, s.going(name), spec.NodePool)
			}
		}
		pools[spec.NodePool] = append(pools[spec.NodePool], name)
	}
	return nil
}

func (s *State) going(name string) string {
	if s.WorkerGroups[name].Deleting {
		return " (which is being deleted)"
	}
	return ""
}

// groupsOf refuses a spec whose deployments are to run in a group that is not
// there, or in two places at once.
func (s *State) groupsOf(spec *appspec.Application) *Refusal {
	for _, d := range spec.Deployments {
		if d.WorkerGroup == "" {
			continue
		}
		who := fmt.Sprintf("deployment %q of application %q names worker group %q", d.Name, spec.Name, d.WorkerGroup)
		group := s.WorkerGroups[d.WorkerGroup]
		switch {
		case group == nil && len(s.WorkerGroups) == 0:
			return refuse(CodeConflict, "%s, and there is no worker group: deploy it first, or in the same file", who)
		case group == nil:
			return refuse(CodeConflict, "%s, which there is not; there are %s", who, some(slices.Sorted(maps.Keys(s.WorkerGroups))))
		case group.Deleting:
			return refuse(CodeConflict, "%s, which is being deleted", who)
		case d.NodePool != "" && d.NodePool != group.Spec.NodePool:
			return refuse(CodeInvalid, "%s, whose nodes are in node pool %q, and node_pool %q: leave one of them out", who, group.Spec.NodePool, d.NodePool)
		}
	}
	return nil
}

func (s *State) deleteGroup(c Command, cmd *DeleteWorkerGroup) *Refusal {
	group := s.WorkerGroups[cmd.WorkerGroup]
	if group == nil || group.Deleting {
		return refuse(CodeNotFound, "no worker group %q", cmd.WorkerGroup)
	}
	if users := s.usersOf(group.Name); len(users) > 0 {
		return refuse(CodeConflict, "worker group %q is in use: %s. Deploy them without it, or delete them, first", group.Name, some(users))
	}
	copied := *group
	copied.Deleting, copied.ModifyIndex = true, s.Index
	s.WorkerGroups = cloned(s.WorkerGroups)
	s.WorkerGroups[group.Name] = &copied
	s.groupEvent(c, "group-deleting", group.Name, withMessage("its nodes drain and go", cmd.Message))
	return nil
}

func (s *State) forgetGroup(c Command, cmd *ForgetWorkerGroup) *Refusal {
	group := s.WorkerGroups[cmd.WorkerGroup]
	if group == nil || !group.Deleting {
		return refuse(CodeConflict, "worker group %q is not being deleted", cmd.WorkerGroup)
	}
	if n := s.nodesOf(group.Name); n > 0 {
		return refuse(CodeConflict, "worker group %q still has %s", group.Name, nodes(n))
	}
	s.WorkerGroups = cloned(s.WorkerGroups)
	delete(s.WorkerGroups, group.Name)
	s.groupEvent(c, "group-deleted", group.Name, "it has no node left")
	return nil
}

// usersOf returns the deployments of live applications that name a group, as
// "application/deployment".
func (s *State) usersOf(group string) []string {
	users := map[string]bool{}
	for _, app := range s.Applications {
		if app.Deleting {
			continue
		}
		for _, v := range app.versions() {
			for _, d := range v.Spec.Deployments {
				if d.WorkerGroup == group {
					users[app.Name+"/"+d.Name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(users))
}

func (s *State) nodesOf(group string) int {
	n := 0
	for _, node := range s.Nodes {
		if node.Group == group {
			n++
		}
	}
	return n
}

func groupIndex(group *WorkerGroup) uint64 {
	if group == nil {
		return 0
	}
	return group.ModifyIndex
}

func lastGroupChange(group *WorkerGroup) string {
	if group == nil || group.By == "" {
		return ""
	}
	return fmt.Sprintf(" (by %s)", group.By)
}

// cloned returns a copy of m that may be written to.
func cloned[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

// some names a few of a list, and says how many more there are.
func some(names []string) string {
	const limit = 5
	if len(names) <= limit {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:limit], ", "), len(names)-limit)
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}
