package appspec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWorkerGroupsThroughJSON(t *testing.T) {
	for _, g := range append(parsedGroups(t), soundGroup()) {
		back := throughJSON(t, g)
		if diff := cmp.Diff(g, back); diff != "" {
			t.Errorf("(-group +read back):\n%s", diff)
		}
		if changes := DiffWorkerGroup(g, back); len(changes) > 0 {
			t.Error(changes)
		}
	}
}

// TestJSONMayLeaveOutOfAGroup holds that what JSON leaves out means what HCL
// means by it, before Complete to Validate and Diff, and after it to everybody.
func TestJSONMayLeaveOutOfAGroup(t *testing.T) {
	var bare WorkerGroup
	if err := json.Unmarshal([]byte(`{"name": "own", "max_nodes": 1, "node": {"cpu": 0.5, "memory_mb": 512},
		"target": {"kind": "exec", "command": ["/usr/local/bin/nodes", "x y"], "config": {"region": "eu"}},
		"scale_down": {"consolidate": true, "window": [{"name": "night", "cron": "@daily", "duration": "1h", "budget": "0"}]}, "schedule": [{"name": "day", "cron": "@daily", "duration": "1h", "max_nodes": 1}]}`), &bare); err != nil {
		t.Fatal(err)
	}
	want := parsedGroups(t)[2]
	want.ScaleDown.Windows = []*ScaleWindow{{Name: "night", Cron: "@daily", Duration: Duration(time.Hour), Timezone: "UTC", Budget: "0"}}
	want.Schedules = []*NodeSchedule{{Name: "day", Cron: "@daily", Duration: Duration(time.Hour), Timezone: "UTC", MaxNodes: new(1)}}
	if faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{&bare}}); len(faults) > 0 {
		t.Error(faults)
	}
	if changes := DiffWorkerGroup(want, &bare); len(changes) > 0 {
		t.Errorf("it differs: %v", changes)
	}
	if bare.NodePool != "" || bare.ScaleDown.Budget != "" || bare.Schedules[0].Timezone != "" {
		t.Errorf("looking at it changes it: %+v", bare)
	}
	bare.Complete()
	if diff := cmp.Diff(want, &bare); diff != "" {
		t.Errorf("(-HCL +JSON):\n%s", diff)
	}
	odd := &WorkerGroup{ScaleDown: &ScaleDown{Windows: []*ScaleWindow{nil, {}}}, Schedules: []*NodeSchedule{nil, {}}, Prefetch: []*Prefetch{nil}}
	odd.Complete()
	if (&WorkerGroup{}).complete().ScaleDown != nil {
		t.Error("a scale_down block comes from nowhere")
	}
}

func TestDiffOfWorkerGroups(t *testing.T) {
	old, g := parsedGroups(t)[0], parsedGroups(t)[0]
	g.MinNodes, g.MaxNodes = 1, 9
	g.IdleTimeout = Duration(90 * time.Second)
	g.Price, g.Spot, g.DryRun = 0, false, false
	g.Labels["zone"], g.Labels["x.y"] = "b", "z"
	delete(g.Env, "HF_HOME")
	g.Env["HF_TOKEN"] = "another secret"
	g.Node.MemoryMB = 32 << 10
	g.Node.DiskMB = 0
	slices.Reverse(g.Node.Drivers) // which is the same set
	g.Node.Attributes["cpu.arch"] = "arm64"
	g.Target.Plugin = "azure-vmss"
	g.Target.Config["aws_asg_name"], g.Target.Config["aws_secret_access_key"] = "other", "another secret"
	g.ScaleDown.Windows = g.ScaleDown.Windows[1:]
	g.ScaleDown.Consolidate = true
	g.Buffer.Resources.MemoryMB = 1 << 10
	g.Schedules = []*NodeSchedule{g.Schedules[1], {Name: "new", Cron: "@daily", Duration: Duration(time.Hour), Timezone: "UTC", MinNodes: new(0)}}
	g.Prefetch[0].Task.Config["image"] = "registry.example/chat:2"
	var lines strings.Builder
	for _, pair := range [][2]*WorkerGroup{{old, g}, {nil, parsedGroups(t)[3]}, {parsedGroups(t)[1], nil}, {nil, nil}} {
		for _, c := range DiffWorkerGroup(pair[0], pair[1]) {
			fmt.Fprintf(&lines, "%-5s %s: %q -> %q\n", c.Effect, c.Path, c.Old, c.New)
		}
		fmt.Fprintln(&lines)
	}
	golden(t, "groups-diff.txt", []byte(lines.String()))
	reshaped := old.Reshaped(g)
	if want := []string{"env.HF_HOME", "env.HF_TOKEN", `labels.zone`}; !slices.Equal(reshaped[:3], want) || !slices.Contains(reshaped, "node.memory") || !slices.Contains(reshaped, "spot") {
		t.Errorf("reshaped: %v, want %v first", reshaped, want)
	}
	if want := []string{"target.plugin"}; !slices.Equal(old.Remade(g), want) {
		t.Errorf("remade: %v, want %v", old.Remade(g), want)
	}
	if fields := append(old.Reshaped(old), old.Remade(old)...); len(fields) > 0 {
		t.Errorf("nothing changed, not %v", fields)
	}
	if back := g.WithShapeOf(old); len(old.Reshaped(back)) > 0 || !slices.Equal(old.Remade(back), old.Remade(g)) || back.MaxNodes != g.MaxNodes {
		t.Errorf("with its old shape it differs in %v and %v", old.Reshaped(back), old.Remade(back))
	}
	absent := &WorkerGroup{}
	explicit := &WorkerGroup{ScaleDown: new(DefaultScaleDown()), Node: NodeShape{Datacenter: "dc1"}, Target: NodeTarget{Kind: TargetNone}}
	if changes := DiffWorkerGroup(absent, explicit); len(changes) > 0 {
		t.Errorf("a default that is written out is the same: %v", changes)
	}
}

// TestEveryFieldOfAGroupDiffers leaves each field out and looks whether Diff
// sees it, by its name, so that none is forgotten.
func TestEveryFieldOfAGroupDiffers(t *testing.T) {
	of := reflect.TypeFor[WorkerGroup]()
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if name == "name" {
			continue
		}
		old, g := soundGroup(), soundGroup()
		old.NodePool, old.MinNodes, old.IdleTimeout = "pool", 1, Duration(2*time.Minute)
		*g = *old
		reflect.ValueOf(g).Elem().Field(i).SetZero()
		changes := DiffWorkerGroup(old, g)
		if len(changes) == 0 || slices.ContainsFunc(changes, func(c Change) bool { return topField(c.Path) != name }) {
			t.Errorf("%s: %v", name, changes)
		}
	}
}
