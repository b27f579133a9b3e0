package appspec

import (
	"math"
	"math/big"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

func (p *parser) rollout(sc *scope, path string, block *hcl.Block) *Rollout {
	d := p.decode(sc, path, block, fieldNames{
		attributes: []string{
			"strategy", "max_surge", "max_unavailable", "steps", "interval", "bake_time", "sticky",
			"progress_deadline", "drain_timeout", "auto_rollback", "shadow", "shadow_time",
		},
		blocks: []string{"gates"},
	})
	r := &Rollout{}
	d.text("strategy", &r.Strategy)
	if d.bad[path+".strategy"] {
		r.Strategy = unreadable
	}
	r.MaxSurge = d.optionalWhole("max_surge", 100)
	if d.whole("max_unavailable", &r.MaxUnavailable); d.bad[path+".max_unavailable"] {
		r.MaxUnavailable = 100 // so that nothing is said to be missing
	}
	r.Steps = d.wholes("steps", "[10, 50, 100]")
	if d.bad[path+".steps"] {
		r.MaxSurge = nil // else the default steps would be held to it
	}
	d.span("interval", &r.Interval)
	r.BakeTime = d.optionalDuration("bake_time")
	d.flag("sticky", &r.Sticky)
	d.span("progress_deadline", &r.ProgressDeadline)
	d.span("drain_timeout", &r.DrainTimeout)
	r.AutoRollback = d.truth("auto_rollback")
	if d.whole("shadow", &r.Shadow); d.bad[path+".shadow"] {
		r.Shadow = 100 // so that shadow_time is not said to be without it
	}
	d.span("shadow_time", &r.ShadowTime)
	if inner := d.block("gates"); inner != nil {
		r.Gates = d.gates(path+".gates", inner)
	}
	return r
}

func (d *decoder) gates(path string, block *hcl.Block) *Gates {
	g := d.decode(d.scope, path, block, fieldNames{
		attributes: []string{"max_error_increase", "max_latency_ratio", "max_restarts"},
		labelled:   []string{"query", "check"},
	})
	out := &Gates{
		MaxErrorIncrease: g.optionalDecimal("max_error_increase"),
		MaxLatencyRatio:  g.optionalDecimal("max_latency_ratio"),
		MaxRestarts:      g.optionalWhole("max_restarts", 0),
	}
	for _, inner := range g.content.Blocks.OfType("query") {
		at, first := d.unique(path+".query."+clip(inner.Labels[0]), "query", inner)
		if query := d.gateQuery(at, inner); first {
			out.Queries = append(out.Queries, query)
		}
	}
	checks := g.content.Blocks.OfType("check")
	for _, inner := range checks[:min(len(checks), maxChecks+1)] { // a task takes long to read
		at, first := d.unique(path+".check."+clip(inner.Labels[0]), "check", inner)
		if check := d.gateCheck(at, inner); first {
			out.Checks = append(out.Checks, check)
		}
	}
	return out
}

func (d *decoder) gateQuery(path string, block *hcl.Block) *Query {
	q := d.decode(d.scope, path, block, fieldNames{attributes: []string{"query", "min", "max", "interval"}})
	d.put(path, block.LabelRanges[0])
	out := &Query{Name: block.Labels[0]}
	q.text("query", &out.Query)
	out.Min, out.Max = q.optionalDecimal("min"), q.optionalDecimal("max")
	q.span("interval", &out.Interval)
	if out.Min == nil && out.Max == nil && (d.bad[path+".min"] || d.bad[path+".max"]) {
		d.spoil(path) // that there is no bound has been said in other words
	}
	return out
}

func (d *decoder) gateCheck(path string, block *hcl.Block) *Check {
	c := d.decode(d.scope, path, block, fieldNames{attributes: []string{"timeout"}, blocks: []string{"task", "resources"}})
	d.put(path, block.LabelRanges[0])
	out := &Check{Name: block.Labels[0], Resources: Resources{CPU: defaultCPU, MemoryMB: defaultMemoryMB}}
	c.span("timeout", &out.Timeout)
	if inner := c.block("resources"); inner != nil {
		d.resources(d.scope, path+".resources", inner, &out.Resources)
	}
	if inner := c.block("task"); inner != nil {
		out.Task = d.task(d.scope, path+".task", inner, checkTask)
	} else if hasBlock(block.Body, "task") { // with a label, which has been refused
		d.spoil(path + ".task")
	}
	return out
}

func (p *parser) reconfigure(sc *scope, path string, block *hcl.Block) *Reconfigure {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{"signal", "path", "timeout"}})
	r := &Reconfigure{}
	d.text("signal", &r.Signal)
	d.text("path", &r.Path)
	d.span("timeout", &r.Timeout)
	if d.bad[path+".signal"] {
		r.Signal = unreadable // so that it is not said to be missing
	}
	if d.bad[path+".path"] {
		r.Path = unreadable
	}
	return r
}

// absent stands for a duration that is not given.
const absent = Duration(math.MinInt64)

// span reads a duration of which 0 stands for the default. Who writes 0 means
// something else, and is told.
func (d *decoder) span(name string, to *Duration) {
	given := absent
	switch d.duration(name, &given); given {
	case absent:
	case 0:
		d.wrong(name, "A duration above 0s is needed; leave %s out for the default.", name)
	default:
		*to = given
	}
}

// optionalDuration is nil when the attribute is not set, or wrong.
func (d *decoder) optionalDuration(name string) *Duration {
	given := absent
	if d.duration(name, &given); given == absent {
		return nil
	}
	return &given
}

// optionalDecimal is nil when the attribute is not set, or wrong.
func (d *decoder) optionalDecimal(name string) *float64 {
	x, ok := d.number(name)
	if !ok {
		return nil
	}
	out, _ := x.Float64()
	return &out
}

// wholes reads a list of whole numbers.
func (d *decoder) wholes(name, example string) []int {
	v, ok := d.value(name)
	if !ok {
		return nil
	}
	var out []int
	if kindOf(v) == "a list" {
		for _, element := range v.AsValueSlice() {
			if element.IsNull() || element.Type() != cty.Number {
				break
			}
			n, accuracy := element.AsBigFloat().Int64()
			if accuracy != big.Exact || int64(int(n)) != n {
				break
			}
			out = append(out, int(n))
		}
		if len(out) == v.LengthInt() && len(out) > 0 {
			d.putElements(name)
			return out
		}
	}
	d.wrong(name, "A list of whole numbers is needed, such as %s.", example)
	return nil
}
