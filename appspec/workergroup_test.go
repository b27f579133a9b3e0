package appspec

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"
)

// soundGroup uses all that a worker group can have.
func soundGroup() *WorkerGroup {
	return &WorkerGroup{
		Name: "gpu", NodePool: "gpu", MaxNodes: 8,
		IdleTimeout: Duration(time.Minute), LaunchTimeout: Duration(time.Minute), DrainTimeout: Duration(time.Minute),
		Priority: 10, Price: 2.5, Spot: true, DryRun: true,
		Labels: map[string]string{"zone": "a"}, Env: map[string]string{"HF_HOME": "/models"},
		Node: NodeShape{
			CPU: 8, CoreMHz: 2600, MemoryMB: 24 << 10, DiskMB: 50 << 10, GPU: 2, GPUModel: "T4", GPUMemoryMB: 16 << 10,
			Datacenter: "dc1", Class: "large", Drivers: []string{"docker", "exec"}, Attributes: map[string]string{"cpu.arch": "amd64"},
		},
		Target: NodeTarget{Kind: TargetPlugin, Plugin: "aws-asg", Config: map[string]string{"aws_asg_name": "x"}},
		ScaleDown: &ScaleDown{Consolidate: true, ConsolidateAfter: Duration(time.Minute), Budget: "10%", Windows: []*ScaleWindow{
			{Name: "night", Cron: "0 22 * * *", Duration: Duration(8 * time.Hour), Timezone: "Europe/Berlin", Budget: "50%"},
			{Name: "release", Cron: "0 0 1 * *", Duration: Duration(time.Hour), Timezone: "UTC", Budget: "0"},
		}},
		Buffer: &Buffer{Nodes: 1, Replicas: 2, Resources: &Resources{CPU: 1, MemoryMB: 1024, GPU: 1}},
		Schedules: []*NodeSchedule{
			{Name: "day", Cron: "0 8 * * mon-fri", Duration: Duration(10 * time.Hour), Timezone: "Europe/Berlin", MinNodes: new(3), MaxNodes: new(10)},
			{Name: "noon", Cron: "0 12 * * *", Duration: Duration(time.Hour), Timezone: "UTC", MinNodes: new(5)},
		},
		Prefetch: []*Prefetch{{Name: "llama", Task: &api.Task{Driver: "docker"}, Resources: Resources{CPU: 0.1, MemoryMB: 64}}},
	}
}

func parsedGroups(t *testing.T) []*WorkerGroup {
	t.Helper()
	body, err := os.ReadFile("testdata/groups.hcl")
	if err != nil {
		t.Fatal(err)
	}
	return accept(t, Source{Files: []SourceFile{{Name: "groups.hcl", Body: body}}}).WorkerGroups
}

func TestWorkerGroupDefaults(t *testing.T) {
	file := accept(t, Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(
		"worker_group \"g\" {\n node {\n cpu = 2\n memory = \"1GiB\"\n }\n buffer {\n replicas = 1\n resources {}\n }\n prefetch \"p\" {\n task {\n driver = \"exec\"\n }\n }\n}\n")}}})
	want := &WorkerGroup{
		Name: "g", NodePool: "g", Node: NodeShape{CPU: 2, MemoryMB: 1024, Datacenter: "dc1"}, MaxNodes: 1,
		IdleTimeout: Duration(time.Minute), LaunchTimeout: Duration(10 * time.Minute), DrainTimeout: Duration(10 * time.Minute),
		Target:   NodeTarget{Kind: TargetNone},
		Buffer:   &Buffer{Replicas: 1, Resources: &Resources{CPU: 0.1, MemoryMB: 128}},
		Prefetch: []*Prefetch{{Name: "p", Task: &api.Task{Driver: "exec"}, Resources: Resources{CPU: 0.1, MemoryMB: 64}}},
	}
	if diff := cmp.Diff(want, file.WorkerGroups[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ScaleDown{Consolidate: true, ConsolidateAfter: Duration(5 * time.Minute), Budget: "10%"}, want.EffectiveScaleDown()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestValidateWorkerGroup(t *testing.T) {
	if faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{soundGroup()}}); len(faults) > 0 {
		t.Fatalf("a sound group has no fault: %v", faults)
	}
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		change func(g *WorkerGroup)
		path   string
		says   string
	}{
		"no name":                    {func(g *WorkerGroup) { g.Name = "" }, "", "starting with a letter"},
		"a pool with spaces":         {func(g *WorkerGroup) { g.NodePool = "a b" }, ".node_pool", "no node pool's name"},
		"the pool of all":            {func(g *WorkerGroup) { g.NodePool = "all" }, ".node_pool", "Nomad's own"},
		"everybody's pool":           {func(g *WorkerGroup) { g.NodePool = "default" }, ".node_pool", "a pool of its own"},
		"min below 0":                {func(g *WorkerGroup) { g.MinNodes = -1 }, ".min_nodes", "from 0"},
		"max of 0":                   {func(g *WorkerGroup) { g.MaxNodes = 0 }, ".max_nodes", "from 1"},
		"a huge max":                 {func(g *WorkerGroup) { g.MaxNodes = math.MaxInt }, ".max_nodes", "to 10000"},
		"min above max":              {func(g *WorkerGroup) { g.MinNodes = 9 }, ".min_nodes", "above max_nodes, which is 8"},
		"a huge priority":            {func(g *WorkerGroup) { g.Priority = math.MinInt }, ".priority", "from -1000000"},
		"price NaN":                  {func(g *WorkerGroup) { g.Price = math.NaN() }, ".price", "NaN"},
		"price Inf":                  {func(g *WorkerGroup) { g.Price = math.Inf(1) }, ".price", "+Inf"},
		"price below 0":              {func(g *WorkerGroup) { g.Price = -0.01 }, ".price", "from 0"},
		"a negative idle_timeout":    {func(g *WorkerGroup) { g.IdleTimeout = -1 }, ".idle_timeout", "from 1s"},
		"an endless idle_timeout":    {func(g *WorkerGroup) { g.IdleTimeout = math.MaxInt64 }, ".idle_timeout", "to 744h"},
		"a short launch_timeout":     {func(g *WorkerGroup) { g.LaunchTimeout = 1 }, ".launch_timeout", "from 1s"},
		"a negative drain_timeout":   {func(g *WorkerGroup) { g.DrainTimeout = -1 }, ".drain_timeout", "from 1s"},
		"a label without a name":     {func(g *WorkerGroup) { g.Labels[""] = "x" }, `.labels[""]`, "no label's name"},
		"a label with a brace":       {func(g *WorkerGroup) { g.Labels["a}"] = "x" }, `.labels["a}"]`, "letters, digits"},
		"a label with a line end":    {func(g *WorkerGroup) { g.Labels["a"] = "x\ny" }, ".labels.a", "control characters"},
		"a long label":               {func(g *WorkerGroup) { g.Labels["a"] = long }, ".labels.a", "at most 4096"},
		"a variable with a dash":     {func(g *WorkerGroup) { g.Env["a-b"] = "" }, ".env.a-b", "no variable's name"},
		"a variable with an =":       {func(g *WorkerGroup) { g.Env["a=b"] = "" }, `.env["a=b"]`, "no variable's name"},
		"a variable of Nomad":        {func(g *WorkerGroup) { g.Env["NOMAD_TOKEN"] = "" }, ".env.NOMAD_TOKEN", "for the target to do"},
		"a variable of Consul":       {func(g *WorkerGroup) { g.Env["CONSUL_HTTP_ADDR"] = "" }, ".env.CONSUL_HTTP_ADDR", "for the target to do"},
		"a variable with a NUL":      {func(g *WorkerGroup) { g.Env["A"] = "\x00" }, ".env.A", "control characters"},
		"cores NaN":                  {func(g *WorkerGroup) { g.Node.CPU = math.NaN() }, ".node.cpu", "NaN"},
		"no cores":                   {func(g *WorkerGroup) { g.Node.CPU = 0 }, ".node.cpu", "from 0.01"},
		"no memory":                  {func(g *WorkerGroup) { g.Node.MemoryMB = 0 }, ".node.memory", "from 10MiB"},
		"a negative clock":           {func(g *WorkerGroup) { g.Node.CoreMHz = -1 }, ".node.core_mhz", "from 0"},
		"a negative disk":            {func(g *WorkerGroup) { g.Node.DiskMB = -1 }, ".node.disk", "up to"},
		"negative GPUs":              {func(g *WorkerGroup) { g.Node.GPU = -1 }, ".node.gpu", "from 0"},
		"too many GPUs":              {func(g *WorkerGroup) { g.Node.GPU = math.MaxInt }, ".node.gpu", "to 1024"},
		"a model of no GPU":          {func(g *WorkerGroup) { g.Node.GPU = 0 }, ".node.gpu_model", "leave it out"},
		"memory of no GPU":           {func(g *WorkerGroup) { g.Node.GPU = 0 }, ".node.gpu_memory", "leave it out"},
		"a model with an escape":     {func(g *WorkerGroup) { g.Node.GPUModel = "\x1b" }, ".node.gpu_model", "printable"},
		"huge memory of a GPU":       {func(g *WorkerGroup) { g.Node.GPUMemoryMB = math.MaxInt }, ".node.gpu_memory", "up to"},
		"a datacenter with a star":   {func(g *WorkerGroup) { g.Node.Datacenter = "dc*" }, ".node.datacenter", "no datacenter's name"},
		"a long class":               {func(g *WorkerGroup) { g.Node.Class = long }, ".node.class", "no node class's name"},
		"a class with a slash":       {func(g *WorkerGroup) { g.Node.Class = "a/b" }, ".node.class", "no node class's name"},
		"a driver without a name":    {func(g *WorkerGroup) { g.Node.Drivers[1] = "" }, ".node.drivers[1]", "no task driver's name"},
		"many drivers":               {func(g *WorkerGroup) { g.Node.Drivers = make([]string, 101) }, ".node.drivers", "At most 100"},
		"attr. before an attribute":  {func(g *WorkerGroup) { g.Node.Attributes["attr.x"] = "" }, `.node.attributes["attr.x"]`, `as "x"`},
		"no target":                  {func(g *WorkerGroup) { g.Target.Kind = "\n" }, ".target", `"process", "plugin", "exec" and "none"`},
		"a plugin as target":         {func(g *WorkerGroup) { g.Target.Kind = "aws-asg" }, ".target", `target "plugin" { plugin = "aws-asg" }`},
		"no plugin":                  {func(g *WorkerGroup) { g.Target.Plugin = "" }, ".target.plugin", "Which target plugin"},
		"a plugin elsewhere":         {func(g *WorkerGroup) { g.Target.Plugin = "../../bin/sh" }, ".target.plugin", "no plugin's name"},
		"a plugin for process":       {func(g *WorkerGroup) { g.Target.Kind = TargetProcess }, ".target.plugin", "leave it out"},
		"a command for a plugin":     {func(g *WorkerGroup) { g.Target.Command = []string{"/x"} }, ".target.command", "leave it out"},
		"no command":                 {func(g *WorkerGroup) { g.Target = NodeTarget{Kind: TargetExec} }, ".target.command", "Which command"},
		"an empty command":           {func(g *WorkerGroup) { g.Target = NodeTarget{Kind: TargetExec, Command: []string{""}} }, ".target.command", "Which command"},
		"a command on the PATH":      {func(g *WorkerGroup) { g.Target = NodeTarget{Kind: TargetExec, Command: []string{"x"}} }, ".target.command[0]", "full path"},
		"a word with a NUL":          {func(g *WorkerGroup) { g.Target = NodeTarget{Kind: TargetExec, Command: []string{"/x", "\x00"}} }, ".target.command[1]", "A word"},
		"an odd setting":             {func(g *WorkerGroup) { g.Target.Config["a b"] = "" }, `.target.config["a b"]`, "no setting's name"},
		"a long consolidate_after":   {func(g *WorkerGroup) { g.ScaleDown.ConsolidateAfter = math.MaxInt64 }, ".scale_down.consolidate_after", "to 744h"},
		"a budget above all":         {func(g *WorkerGroup) { g.ScaleDown.Budget = "101%" }, ".scale_down.budget", `"10%"`},
		"a budget below none":        {func(g *WorkerGroup) { g.ScaleDown.Budget = "-1" }, ".scale_down.budget", `"10%"`},
		"a budget with a plus":       {func(g *WorkerGroup) { g.ScaleDown.Budget = "+1" }, ".scale_down.budget", `"10%"`},
		"half a budget":              {func(g *WorkerGroup) { g.ScaleDown.Budget = "0.5" }, ".scale_down.budget", `"10%"`},
		"a budget of percent":        {func(g *WorkerGroup) { g.ScaleDown.Budget = "%" }, ".scale_down.budget", `"10%"`},
		"a huge budget":              {func(g *WorkerGroup) { g.ScaleDown.Budget = "99999999999999999999" }, ".scale_down.budget", `"10%"`},
		"nil windows":                {func(g *WorkerGroup) { g.ScaleDown.Windows[1] = nil }, ".scale_down.window", "no window"},
		"too many windows":           {func(g *WorkerGroup) { g.ScaleDown.Windows = make([]*ScaleWindow, 51) }, ".scale_down.window", "at most 50"},
		"a window's name twice":      {func(g *WorkerGroup) { g.ScaleDown.Windows[1].Name = "night" }, ".scale_down.window.night", "already"},
		"a window's name":            {func(g *WorkerGroup) { g.ScaleDown.Windows[0].Name = "" }, ".scale_down.window.", "starting with a letter"},
		"a window's cron":            {func(g *WorkerGroup) { g.ScaleDown.Windows[0].Cron = "" }, ".scale_down.window.night.cron", "When does it begin"},
		"a window's timezone":        {func(g *WorkerGroup) { g.ScaleDown.Windows[0].Timezone = "Local" }, ".scale_down.window.night.timezone", "another time on every machine"},
		"a window without an end":    {func(g *WorkerGroup) { g.ScaleDown.Windows[0].Duration = 0 }, ".scale_down.window.night.duration", "For how long"},
		"a window without a budget":  {func(g *WorkerGroup) { g.ScaleDown.Windows[0].Budget = "" }, ".scale_down.window.night.budget", `"10%"`},
		"a large buffer":             {func(g *WorkerGroup) { g.Buffer.Nodes = 9 }, ".buffer.nodes", "more than max_nodes, which is 8"},
		"a negative buffer":          {func(g *WorkerGroup) { g.Buffer.Nodes = -1 }, ".buffer.nodes", "from 0"},
		"an empty buffer":            {func(g *WorkerGroup) { g.Buffer = &Buffer{} }, ".buffer", "sets neither"},
		"replicas of no size":        {func(g *WorkerGroup) { g.Buffer.Resources = nil }, ".buffer.replicas", "How large"},
		"a size of no replicas":      {func(g *WorkerGroup) { g.Buffer.Replicas = 0 }, ".buffer.resources", "For how many"},
		"replicas that never fit":    {func(g *WorkerGroup) { g.Buffer.Resources.GPU = 3 }, ".buffer.resources.gpu", "has 2 GPUs"},
		"more replicas than fit":     {func(g *WorkerGroup) { g.Buffer.Replicas = 17 }, ".buffer.replicas", "room for 2 of these, so 17 take 9 nodes"},
		"nil schedules":              {func(g *WorkerGroup) { g.Schedules[0] = nil }, ".schedule", "no schedule"},
		"too many schedules":         {func(g *WorkerGroup) { g.Schedules = make([]*NodeSchedule, 51) }, ".schedule", "at most 50"},
		"a schedule's name twice":    {func(g *WorkerGroup) { g.Schedules[1].Name = "day" }, ".schedule.day", "already"},
		"a schedule without bounds":  {func(g *WorkerGroup) { g.Schedules[1].MinNodes = nil }, ".schedule.noon", "sets neither"},
		"a schedule's min above max": {func(g *WorkerGroup) { g.Schedules[1].MinNodes = new(9) }, ".schedule.noon.min_nodes", "above the block's max_nodes, which is 8"},
		"a schedule's huge max":      {func(g *WorkerGroup) { g.Schedules[0].MaxNodes = new(10_001) }, ".schedule.day.max_nodes", "to 10000"},
		"a schedule's cron":          {func(g *WorkerGroup) { g.Schedules[0].Cron = "@every 1h" }, ".schedule.day.cron", "names no time"},
		"nil prefetches":             {func(g *WorkerGroup) { g.Prefetch[0] = nil }, ".prefetch", "no prefetch block"},
		"too many prefetches":        {func(g *WorkerGroup) { g.Prefetch = make([]*Prefetch, 21) }, ".prefetch", "at most 20"},
		"a prefetch twice":           {func(g *WorkerGroup) { g.Prefetch = append(g.Prefetch, g.Prefetch[0]) }, ".prefetch.llama", "already"},
		"a prefetch of nothing":      {func(g *WorkerGroup) { g.Prefetch[0].Task = nil }, ".prefetch.llama.task", "task block"},
		"a prefetch without driver":  {func(g *WorkerGroup) { g.Prefetch[0].Task.Driver = "" }, ".prefetch.llama.task.driver", "driver"},
		"a prefetch's odd driver":    {func(g *WorkerGroup) { g.Prefetch[0].Task.Driver = "java" }, ".prefetch.llama.task.driver", "its drivers are docker, exec"},
		"a prefetch's resources":     {func(g *WorkerGroup) { g.Prefetch[0].Task.Resources = &api.Resources{} }, ".prefetch.llama.task.resources", "prefetch block's own"},
		"a prefetch that never fits": {func(g *WorkerGroup) { g.Prefetch[0].Resources.MemoryMB = 25 << 10 }, ".prefetch.llama.resources.memory", "has 24GiB"},
	} {
		t.Run(name, func(t *testing.T) {
			g := soundGroup()
			c.change(g)
			path := "worker_group." + g.Name + c.path
			faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{g}})
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Path == path && strings.Contains(f.Message, c.says) }) {
				t.Errorf("%s: %q is wanted, not %v", path, c.says, faults)
			}
		})
	}
}

func TestGroupsOfOnePool(t *testing.T) {
	for _, c := range []struct{ mine, its, says string }{
		{"", "", "set class in the node block of both"},
		{"a", "", `worker group "b" too`},
		{"", "a", `worker group "a" too`},
		{"a", "a", "a class of its own"},
		{"a", "b", ""},
	} {
		a := &WorkerGroup{Name: "a", NodePool: "p", Node: NodeShape{Class: c.mine}}
		b := &WorkerGroup{Name: "b", NodePool: "p", Node: NodeShape{Class: c.its}}
		got := a.ClashesWith(b)
		if !strings.Contains(got, c.says) || (got == "") != (c.says == "") || (got == "") != (b.ClashesWith(a) == "") {
			t.Errorf("%q and %q: %q", c.mine, c.its, got)
		}
		if b.NodePool = "q"; a.ClashesWith(b) != "" {
			t.Error("two pools clash")
		}
	}
	first, second := soundGroup(), soundGroup()
	second.Name = "more"
	faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{first, second}})
	if len(faults) != 1 || faults[0].Path != "worker_group.more.node_pool" {
		t.Errorf("one fault is wanted, not %v", faults)
	}
	if faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{first, first}}); len(faults) != 1 || !strings.Contains(faults[0].Message, "already") {
		t.Errorf("one fault is wanted, not %v", faults)
	}
}

func TestCannotHold(t *testing.T) {
	at := "application.shop.deployment.b."
	for name, c := range map[string]struct {
		change func(d *Deployment)
		paths  []string
	}{
		"all that there is":         {func(d *Deployment) { d.Resources = Resources{CPU: 8, MemoryMB: 24 << 10, GPU: 2} }, nil},
		"cores":                     {func(d *Deployment) { d.Resources.CPU = 8.1 }, []string{"resources.cpu"}},
		"cores, memory and GPUs":    {func(d *Deployment) { d.Resources = Resources{CPU: 9, MemoryMB: 25 << 10, GPU: 3} }, []string{"resources.cpu", "resources.memory", "resources.gpu"}},
		"a driver":                  {func(d *Deployment) { d.Task.Driver = "java" }, []string{"task.driver"}},
		"another pool":              {func(d *Deployment) { d.NodePool = "cpu" }, []string{"node_pool"}},
		"any pool":                  {func(d *Deployment) { d.NodePool = "all" }, []string{"node_pool"}},
		"the same pool":             {func(d *Deployment) { d.NodePool = "gpu" }, nil},
		"a group that is elsewhere": {func(d *Deployment) { d.WorkerGroup, d.Resources.CPU = "other", 100 }, nil},
		"a pool without a group":    {func(d *Deployment) { d.WorkerGroup, d.NodePool, d.Resources.CPU = "", "gpu", 100 }, nil},
		"what is not sound anyway":  {func(d *Deployment) { d.Resources.CPU = math.Inf(1) }, []string{"resources.cpu"}},
	} {
		t.Run(name, func(t *testing.T) {
			app := sound()
			d := app.Deployments[1]
			d.WorkerGroup = "gpu"
			c.change(d)
			var got []string
			for _, f := range ValidateFile(&File{Applications: []*Application{app}, WorkerGroups: []*WorkerGroup{soundGroup()}}) {
				got = append(got, strings.TrimPrefix(f.Path, at))
			}
			if !slices.Equal(got, c.paths) {
				t.Errorf("faults at %v, want %v", got, c.paths)
			}
		})
	}
	if faults := soundGroup().CannotHold(&Deployment{}); len(faults) > 0 {
		t.Errorf("a deployment without a task: %v", faults)
	}
}

// TestHolds compares how many replicas fit with putting them there one by one.
func TestHolds(t *testing.T) {
	if got := (NodeShape{CPU: 0.3, MemoryMB: 1000}).holds(Resources{CPU: 0.1, MemoryMB: 10}); got != 3 {
		t.Errorf("%d tenths in three", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		tenth := func(label string) int { return rapid.IntRange(1, 40).Draw(t, label) }
		cores, memory, gpus := tenth("cores"), tenth("memory"), rapid.IntRange(0, 4).Draw(t, "gpus")
		n := NodeShape{CPU: float64(cores) / 10, MemoryMB: memory, GPU: gpus}
		core, mb, gpu := tenth("core"), tenth("mb"), rapid.IntRange(0, 2).Draw(t, "gpu")
		want := 0
		for cores >= core && memory >= mb && gpus >= gpu {
			cores, memory, gpus, want = cores-core, memory-mb, gpus-gpu, want+1
		}
		if got := n.holds(Resources{CPU: float64(core) / 10, MemoryMB: mb, GPU: float64(gpu)}); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	})
}

func TestTakesAnyWorkerGroup(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	many := map[string]string{}
	for i := range 1000 {
		many[fmt.Sprint(i)] = ""
	}
	hostile := &WorkerGroup{
		Name: huge, NodePool: huge, MinNodes: math.MinInt, MaxNodes: math.MaxInt, Price: math.NaN(),
		Labels: many, Env: many, IdleTimeout: math.MinInt64,
		Node: NodeShape{
			CPU: math.Inf(-1), MemoryMB: math.MinInt, GPU: math.MinInt, DiskMB: math.MinInt, Class: huge, Datacenter: "\xff",
			GPUModel: huge, Drivers: make([]string, 100_000), Attributes: many,
		},
		Target:    NodeTarget{Kind: huge, Plugin: huge, Command: make([]string, 100_000), Config: many},
		ScaleDown: &ScaleDown{Budget: huge, Windows: make([]*ScaleWindow, 50)},
		Buffer:    &Buffer{Nodes: math.MinInt, Replicas: math.MaxInt, Resources: &Resources{CPU: math.NaN(), MemoryMB: math.MinInt, GPU: math.Inf(-1)}},
		Schedules: []*NodeSchedule{nil, {}, {Cron: "TZ=0", Duration: math.MaxInt64, Timezone: huge, MinNodes: new(math.MaxInt), MaxNodes: new(math.MinInt)}},
		Prefetch:  []*Prefetch{nil, {}, {Name: huge, Task: &api.Task{Templates: []*api.Template{nil}, Config: map[string]any{"a": deepMap(5000)}}}},
	}
	exec := &WorkerGroup{Name: "exec", Target: NodeTarget{Kind: TargetExec, Command: make([]string, 100_000)}}
	file := &File{WorkerGroups: []*WorkerGroup{nil, {}, hostile, exec, hostile}, Applications: []*Application{nil, sound()}}
	file.Applications[1].Deployments[0].WorkerGroup = "exec"
	start := time.Now()
	faults := ValidateFile(file)
	if raw, err := json.Marshal(faults); err != nil || len(raw) > 4<<20 || len(faults) < 10 {
		t.Errorf("%d faults, %d bytes of them, %v", len(faults), len(raw), err)
	}
	DiffWorkerGroup(hostile, exec)
	hostile.NodeBounds(time.Time{})
	hostile.EffectiveScaleDown().BudgetAt(time.Time{}, math.MaxInt)
	hostile.Complete()
	if took := time.Since(start); took > patience {
		t.Errorf("took %s", took)
	}
	if faults := ValidateFile(&File{WorkerGroups: make([]*WorkerGroup, 100_000)}); len(faults) != 1 {
		t.Errorf("%d faults for too many groups", len(faults))
	}
}

func TestEveryFieldOfAGroupIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## worker_group\n")
	if !found {
		t.Fatal("docs/spec.md has no section on worker groups")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for _, block := range []any{WorkerGroup{}, NodeShape{}, NodeTarget{}, ScaleDown{}, ScaleWindow{}, Buffer{}, NodeSchedule{}, Prefetch{}} {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(block)) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			name = strings.TrimSuffix(name, "_mb")
			if name != "name" && name != "kind" && !strings.Contains(section, "`"+name) { // labels
				t.Errorf("docs/spec.md does not say what %s is", name)
			}
		}
	}
}

func TestABadNameIsOneFault(t *testing.T) {
	g := soundGroup()
	g.Name, g.NodePool = "größe", "größe"
	if faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{g}}); len(faults) != 1 || !strings.Contains(faults[0].Message, "worker group name") {
		t.Errorf("got %v", faults)
	}
	g.Name, g.NodePool = "all", "all"
	if faults := ValidateFile(&File{WorkerGroups: []*WorkerGroup{g}}); len(faults) != 1 || !strings.Contains(faults[0].Message, "Nomad's own") {
		t.Errorf("got %v", faults)
	}
}
