package main

import (
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// devGroups are the worker groups that every run has, but for those whose name
// or node pool the file has taken. A node is small: it shares the machine with
// all else, and what it has is what it says, not what is set aside for it.
func devGroups(file *appspec.File) []*appspec.WorkerGroup {
	var groups []*appspec.WorkerGroup
	for _, name := range []string{"cpu", "gpu"} {
		taken := func(g *appspec.WorkerGroup) bool { return g.Name == name || g.NodePool == name }
		if file != nil && slices.ContainsFunc(file.WorkerGroups, taken) {
			continue
		}
		g := &appspec.WorkerGroup{
			Name: name, NodePool: name, MaxNodes: 4, IdleTimeout: appspec.Duration(30 * time.Second),
			Node:   appspec.NodeShape{CPU: 2, MemoryMB: 1024},
			Target: appspec.NodeTarget{Kind: appspec.TargetProcess},
		}
		g.Complete()
		groups = append(groups, g)
	}
	return groups
}
