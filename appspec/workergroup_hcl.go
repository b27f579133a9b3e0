package appspec

import (
	"time"

	"github.com/hashicorp/hcl/v2"
)

// What a field of a worker group is when it is absent.
const (
	defaultMaxNodes       = 1
	defaultIdleTimeout    = Duration(60 * time.Second) // Ray's
	defaultLaunchTimeout  = Duration(10 * time.Minute)
	defaultDrainTimeout   = Duration(10 * time.Minute)
	defaultDatacenter     = "dc1" // Nomad's
	defaultPrefetchMemory = 64    // MiB
)

// Complete sets what JSON may leave out of a worker group and HCL always sets,
// so that both are the same spec. A duration of 0 is one that was left out. It
// takes any group, also one with faults.
func (g *WorkerGroup) Complete() {
	setIfZero(&g.NodePool, g.Name)
	setIfZero(&g.IdleTimeout, defaultIdleTimeout)
	setIfZero(&g.LaunchTimeout, defaultLaunchTimeout)
	setIfZero(&g.DrainTimeout, defaultDrainTimeout)
	setIfZero(&g.Node.Datacenter, defaultDatacenter)
	setIfZero(&g.Target.Kind, TargetNone)
	if s := g.ScaleDown; s != nil {
		setIfZero(&s.ConsolidateAfter, DefaultScaleDown().ConsolidateAfter)
		setIfZero(&s.Budget, DefaultScaleDown().Budget)
		for _, w := range s.Windows {
			if w != nil {
				setIfZero(&w.Timezone, "UTC")
			}
		}
	}
	for _, s := range g.Schedules {
		if s != nil {
			setIfZero(&s.Timezone, "UTC")
		}
	}
}

func setIfZero[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// complete is a copy that Complete has been called on. What Complete does not
// touch is shared.
func (g *WorkerGroup) complete() *WorkerGroup {
	out := *g
	if g.ScaleDown != nil {
		out.ScaleDown = new(*g.ScaleDown)
		out.ScaleDown.Windows = copies(g.ScaleDown.Windows)
	}
	out.Schedules = copies(g.Schedules)
	out.Complete()
	return &out
}

func copies[T any](list []*T) []*T {
	var out []*T
	for _, element := range list {
		if element != nil {
			element = new(*element)
		}
		out = append(out, element)
	}
	return out
}

func (p *parser) workerGroup(sc *scope, block *hcl.Block) {
	g := &WorkerGroup{Name: block.Labels[0], MaxNodes: defaultMaxNodes}
	g.Complete()
	path, first := p.unique(workerGroupPath(g.Name), "worker group", block)
	if first {
		p.file.WorkerGroups = append(p.file.WorkerGroups, g)
	}
	d := p.decode(sc, path, block, fieldNames{
		attributes: []string{
			"node_pool", "min_nodes", "max_nodes", "idle_timeout", "priority", "price", "spot", "labels",
			"env", "launch_timeout", "drain_timeout", "dry_run",
		},
		blocks:   []string{"node", "scale_down", "buffer"},
		labelled: []string{"target", "schedule", "prefetch"},
	})
	p.put(d.path, block.LabelRanges[0])
	d.text("node_pool", &g.NodePool)
	d.whole("min_nodes", &g.MinNodes)
	if d.whole("max_nodes", &g.MaxNodes); d.bad[d.path+".max_nodes"] {
		g.MaxNodes = maxNodes // so that nothing is said to be above it
	}
	d.duration("idle_timeout", &g.IdleTimeout)
	d.whole("priority", &g.Priority)
	d.decimal("price", &g.Price)
	d.flag("spot", &g.Spot)
	g.Labels = d.textMap("labels", `{ zone = "a" }`)
	g.Env = d.textMap("env", `{ HF_HOME = "/models" }`)
	d.duration("launch_timeout", &g.LaunchTimeout)
	d.duration("drain_timeout", &g.DrainTimeout)
	d.flag("dry_run", &g.DryRun)
	d.workerGroupBlocks(g, block.DefRange)
}

// workerGroupBlocks reads the blocks inside a worker_group block.
func (d *decoder) workerGroupBlocks(g *WorkerGroup, at hcl.Range) {
	if inner := d.block("node"); inner != nil {
		d.nodeShape(d.path+".node", inner, &g.Node)
	} else {
		d.spoil(d.path + ".node")
		g.Node.GPU = maxGPU // so that nothing is said not to fit
		d.add(errorAt(at, "Missing node block", "Worker group %s needs a node block, the shape of one node: its cpu, memory and gpu.", quote(g.Name)))
	}
	if inner := d.block("target"); inner != nil {
		d.target(d.path+".target", inner, &g.Target)
	}
	if inner := d.block("scale_down"); inner != nil {
		g.ScaleDown = d.scaleDown(d.path+".scale_down", inner)
	}
	if inner := d.block("buffer"); inner != nil {
		g.Buffer = d.buffer(d.path+".buffer", inner)
	}
	for _, inner := range d.content.Blocks.OfType("schedule") {
		path, first := d.unique(d.path+".schedule."+clip(inner.Labels[0]), "schedule", inner)
		if schedule := d.nodeSchedule(path, inner, g); first {
			g.Schedules = append(g.Schedules, schedule)
		}
	}
	prefetches := d.content.Blocks.OfType("prefetch")
	for _, inner := range prefetches[:min(len(prefetches), maxPrefetches+1)] { // a task takes long to read
		path, first := d.unique(d.path+".prefetch."+clip(inner.Labels[0]), "prefetch", inner)
		if prefetch := d.prefetch(path, inner); first {
			g.Prefetch = append(g.Prefetch, prefetch)
		}
	}
}

func (d *decoder) nodeShape(path string, block *hcl.Block, to *NodeShape) {
	n := d.decode(d.scope, path, block, fieldNames{attributes: []string{
		"cpu", "core_mhz", "memory", "disk", "gpu", "gpu_model", "gpu_memory", "datacenter", "class", "drivers", "attributes",
	}})
	n.decimal("cpu", &to.CPU)
	n.whole("core_mhz", &to.CoreMHz)
	n.memory("memory", &to.MemoryMB)
	n.memory("disk", &to.DiskMB)
	n.whole("gpu", &to.GPU)
	n.text("gpu_model", &to.GPUModel)
	n.memory("gpu_memory", &to.GPUMemoryMB)
	n.text("datacenter", &to.Datacenter)
	n.text("class", &to.Class)
	// What cannot be read is taken to be what nothing else is wrong with.
	if d.bad[path+".gpu"] {
		to.GPU = maxGPU
	}
	if d.bad[path+".class"] {
		to.Class = path
	}
	to.Drivers = n.texts("drivers", `["docker"]`)
	to.Attributes = n.textMap("attributes", `{ "cpu.arch" = "amd64" }`)
}

func (d *decoder) target(path string, block *hcl.Block, to *NodeTarget) {
	t := d.decode(d.scope, path, block, fieldNames{attributes: []string{"plugin", "command", "config"}})
	d.put(path, block.LabelRanges[0])
	to.Kind = block.Labels[0]
	t.text("plugin", &to.Plugin)
	to.Command = t.texts("command", `["/usr/local/bin/nodes"]`)
	to.Config = t.textMap("config", `{ aws_asg_name = "gpu-nodes" }`)
}

func (d *decoder) scaleDown(path string, block *hcl.Block) *ScaleDown {
	s := d.decode(d.scope, path, block, fieldNames{
		attributes: []string{"consolidate", "consolidate_after", "budget"},
		labelled:   []string{"window"},
	})
	out := DefaultScaleDown()
	s.flag("consolidate", &out.Consolidate)
	s.duration("consolidate_after", &out.ConsolidateAfter)
	s.text("budget", &out.Budget)
	for _, inner := range s.content.Blocks.OfType("window") {
		path, first := d.unique(path+".window."+clip(inner.Labels[0]), "window", inner)
		w := d.decode(d.scope, path, inner, fieldNames{attributes: []string{"cron", "duration", "timezone", "budget"}})
		d.put(path, inner.LabelRanges[0])
		window := &ScaleWindow{Name: inner.Labels[0], Timezone: "UTC"}
		w.text("cron", &window.Cron)
		w.duration("duration", &window.Duration)
		w.text("timezone", &window.Timezone)
		w.text("budget", &window.Budget)
		if first {
			out.Windows = append(out.Windows, window)
		}
	}
	return &out
}

func (d *decoder) buffer(path string, block *hcl.Block) *Buffer {
	b := d.decode(d.scope, path, block, fieldNames{attributes: []string{"nodes", "replicas"}, blocks: []string{"resources"}})
	out := &Buffer{}
	b.whole("nodes", &out.Nodes)
	b.whole("replicas", &out.Replicas)
	if inner := b.block("resources"); inner != nil {
		out.Resources = &Resources{CPU: defaultCPU, MemoryMB: defaultMemoryMB}
		d.resources(d.scope, path+".resources", inner, out.Resources)
	}
	return out
}

func (d *decoder) nodeSchedule(path string, block *hcl.Block, in *WorkerGroup) *NodeSchedule {
	s := d.decode(d.scope, path, block, fieldNames{attributes: []string{"cron", "duration", "timezone", "min_nodes", "max_nodes"}})
	d.put(path, block.LabelRanges[0])
	out := &NodeSchedule{Name: block.Labels[0], Timezone: "UTC"}
	s.text("cron", &out.Cron)
	s.duration("duration", &out.Duration)
	s.text("timezone", &out.Timezone)
	out.MinNodes = s.optionalWhole("min_nodes", in.MinNodes)
	out.MaxNodes = s.optionalWhole("max_nodes", in.MaxNodes)
	return out
}

func (d *decoder) prefetch(path string, block *hcl.Block) *Prefetch {
	f := d.decode(d.scope, path, block, fieldNames{blocks: []string{"task", "resources"}})
	d.put(path, block.LabelRanges[0])
	out := &Prefetch{Name: block.Labels[0], Resources: Resources{CPU: defaultCPU, MemoryMB: defaultPrefetchMemory}}
	if inner := f.block("resources"); inner != nil {
		d.resources(d.scope, path+".resources", inner, &out.Resources)
	}
	if inner := f.block("task"); inner != nil {
		out.Task = d.task(d.scope, path+".task", inner, prefetchTask)
	} else if hasBlock(block.Body, "task") { // with a label, which has been refused
		d.spoil(path + ".task")
	}
	return out
}
