package nomadjobs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/placement"
)

func TestAskOf(t *testing.T) {
	var job api.Job
	decodeFile(t, "testdata/job.json", &job)
	got, err := AskOf(&job)
	if err != nil {
		t.Fatal(err)
	}
	want := placement.Ask{
		Key: rankerID, Job: rankerID, Namespace: "default", TaskGroup: "ranker",
		Pool: "gpu", Datacenters: []string{"dc1", "eu-*"}, Priority: 70,
		Uses:    placement.Resources{CPU: 950, MemoryMB: 1056, DiskMB: 500}, // memory with secrets and sidecar
		Drivers: []string{"exec", "raw_exec"},
		Devices: []placement.DeviceAsk{{
			Name: "nvidia/gpu", Count: 2,
			Constraints: []placement.Constraint{{Left: "${device.attr.memory}", Operand: ">=", Right: "16 GiB"}},
			Affinities:  []placement.Affinity{{Constraint: placement.Constraint{Left: "${device.model}", Operand: "=", Right: "NVIDIA L4"}, Weight: 50}},
		}},
		DynamicPorts: 2, StaticPorts: []int{9999},
		Volumes: map[string]bool{"models": false, "scratch": true},
		Constraints: []placement.Constraint{
			{Left: "${node.class}", Operand: "=", Right: "l4"},
			{Left: "${attr.plugins.secrets.nomad.version}", Operand: "is_set"}, // this and the next two are Nomad's own
			{Left: "${attr.os.signals}", Operand: "set_contains", Right: "SIGTERM"},
			{Left: "${attr.consul.version}", Operand: "semver", Right: ">= 1.8.0"},
			{Left: "${attr.cpu.arch}", Operand: "=", Right: "amd64"},
		},
		DistinctHosts: true, Distinct: []placement.DistinctProperty{{Property: "${meta.rack}", Limit: 2}},
		Affinities: []placement.Affinity{
			{Constraint: placement.Constraint{Left: "${meta.rack}", Operand: "=", Right: "r1"}, Weight: 30},
			{Constraint: placement.Constraint{Left: "${attr.os.name}", Operand: "!=", Right: "debian"}, Weight: -20},
		},
		Spreads: []placement.Spread{{Attribute: "${node.unique.id}", Weight: 100}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAskOfEdges(t *testing.T) {
	base := func() *api.Job { return fakeJob("c1") }
	for name, tc := range map[string]struct {
		edit  func(*api.Job, *api.TaskGroup)
		check func(placement.Ask) bool // nil: it is an error
	}{
		"nothing said": {func(*api.Job, *api.TaskGroup) {}, func(a placement.Ask) bool {
			return a.Uses.DiskMB == 300 && !a.DistinctHosts && a.Pool == "" && a.DynamicPorts == 1
		}},
		"distinct_hosts without a value": {func(j *api.Job, _ *api.TaskGroup) {
			j.Constraints = []*api.Constraint{{Operand: "distinct_hosts"}}
		}, func(a placement.Ask) bool { return a.DistinctHosts && len(a.Constraints) == 0 }},
		"distinct_hosts that is off": {func(_ *api.Job, g *api.TaskGroup) {
			g.Constraints = []*api.Constraint{{Operand: "distinct_hosts", RTarget: "false"}}
		}, func(a placement.Ask) bool { return !a.DistinctHosts }},
		"distinct_property without a limit": {func(_ *api.Job, g *api.TaskGroup) {
			g.Constraints = []*api.Constraint{{Operand: "distinct_property", LTarget: "${meta.rack}"}}
		}, func(a placement.Ask) bool { return a.Distinct[0].Limit == 1 }},
		"distinct_property with a limit that is none": {func(_ *api.Job, g *api.TaskGroup) {
			g.Constraints = []*api.Constraint{{Operand: "distinct_property", LTarget: "${meta.rack}", RTarget: "many"}}
		}, nil},
		"ports of tasks, and one that may collide": {func(_ *api.Job, g *api.TaskGroup) {
			g.Networks[0].ReservedPorts = []api.Port{{Value: 80, IgnoreCollision: true}}
			g.Tasks[0].Resources.Networks = []*api.NetworkResource{{DynamicPorts: []api.Port{{Label: "x"}}, ReservedPorts: []api.Port{{Value: 81}}}}
		}, func(a placement.Ask) bool {
			return a.DynamicPorts == 2 && len(a.StaticPorts) == 1 && a.StaticPorts[0] == 81
		}},
		"whole cores": {func(_ *api.Job, g *api.TaskGroup) {
			g.Tasks[0].Resources.CPU, g.Tasks[0].Resources.Cores = new(0), new(2)
		}, func(a placement.Ask) bool { return a.Uses.Cores == 2 && a.Uses.CPU == 0 }},
		"a device without a count": {func(_ *api.Job, g *api.TaskGroup) {
			g.Tasks[0].Resources.Devices = []*api.RequestedDevice{{Name: "gpu"}}
		}, func(a placement.Ask) bool { return a.Devices[0].Count == 1 }},
		"a volume of CSI": {func(_ *api.Job, g *api.TaskGroup) {
			g.Volumes = map[string]*api.VolumeRequest{"v": {Type: "csi", Source: "v"}}
		}, nil},
		"one volume each": {func(_ *api.Job, g *api.TaskGroup) {
			g.Volumes = map[string]*api.VolumeRequest{"v": {Type: "host", Source: "v", PerAlloc: true}}
		}, nil},
		"one NUMA node": {func(_ *api.Job, g *api.TaskGroup) {
			g.Tasks[0].Resources.NUMA = &api.NUMAResource{Affinity: "require"}
		}, nil},
		"two groups": {func(j *api.Job, g *api.TaskGroup) { j.TaskGroups = append(j.TaskGroups, g) }, nil},
		"no group":   {func(j *api.Job, _ *api.TaskGroup) { j.TaskGroups = nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			job := base()
			tc.edit(job, job.TaskGroups[0])
			got, err := AskOf(job)
			if (err != nil) != (tc.check == nil) || tc.check != nil && !tc.check(got) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
