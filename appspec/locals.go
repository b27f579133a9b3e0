package appspec

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// newScope evaluates the variables and locals of a file.
func (p *parser) newScope(text []byte, content *hcl.BodyContent) *scope {
	sc := &scope{text: text, ctx: &hcl.EvalContext{
		Functions: p.meter.functions,
		Variables: map[string]cty.Value{
			"var": cty.ObjectVal(p.variables(content.Blocks.OfType("variable"))),
		},
	}}
	sc.ctx.UndefinedVariable = sc.undefined
	p.locals(sc, content.Blocks.OfType("locals"))
	return sc
}

// locals evaluates them in the order in which they need each other.
func (p *parser) locals(sc *scope, blocks hcl.Blocks) {
	exprs := map[string]*hcl.Attribute{}
	for _, block := range blocks {
		attrs, diags := block.Body.JustAttributes()
		p.add(diags...)
		for _, name := range slices.Sorted(maps.Keys(attrs)) {
			if _, twice := exprs[name]; twice {
				p.add(errorAt(attrs[name].NameRange, "Local defined twice", "There is already a local %s in this file.", quote(name)))
				continue
			}
			exprs[name] = attrs[name]
		}
	}
	values := map[string]cty.Value{}
	for name := range exprs { // so that a ring is not reported twice
		values[name] = cty.DynamicVal
	}
	sc.ctx.Variables["local"] = cty.ObjectVal(values)
	if len(exprs) > maxLocals {
		p.add(errorAt(blocks[0].DefRange, "Too many locals", "A file may have at most %d locals; this one has %d.", maxLocals, len(exprs)))
		return
	}
	for _, name := range p.localOrder(exprs) {
		value, _ := p.evaluate(exprs[name].Expr, sc.ctx)
		values = maps.Clone(values)
		values[name] = value
		sc.ctx.Variables["local"] = cty.ObjectVal(values)
	}
}

// maxLocals is how many locals, and how many variables, a file may have.
const maxLocals = 1000

// localOrder puts each local after those that it refers to, and says which
// ones need themselves.
func (p *parser) localOrder(exprs map[string]*hcl.Attribute) []string {
	const (
		entered = 1
		done    = 2
	)
	var order, trail []string
	state := map[string]int{}
	var visit func(name string)
	visit = func(name string) {
		attr, known := exprs[name]
		if !known || state[name] == done {
			return
		}
		if state[name] == entered {
			ring := append(slices.Clone(trail[slices.Index(trail, name):]), name)
			p.add(errorAt(attr.NameRange, "Locals need each other", "local.%s cannot be worked out, since it needs itself: %s.",
				clip(name), clipTo(strings.Join(ring, " -> "), 400)))
			return
		}
		state[name] = entered
		trail = append(trail, name)
		for _, needed := range p.neededLocals(attr.Expr) {
			visit(needed)
		}
		trail = trail[:len(trail)-1]
		state[name] = done
		order = append(order, name)
	}
	for _, name := range slices.Sorted(maps.Keys(exprs)) {
		visit(name)
	}
	return order
}

func (p *parser) neededLocals(expr hcl.Expression) []string {
	var names []string
	for _, traversal := range expr.Variables() {
		if traversal.RootName() != "local" {
			continue
		}
		if len(traversal) < 2 {
			p.add(errorAt(traversal.SourceRange(), "Invalid reference", "Inside locals, local is followed by a name: local.<name>."))
			continue
		}
		switch step := traversal[1].(type) {
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		case hcl.TraverseIndex:
			if step.Key.Type() == cty.String && step.Key.IsKnown() {
				names = append(names, step.Key.AsString())
			}
		}
	}
	return names
}

// evaluate works out one expression under the meter. It returns false when
// there is no value, which has been said then.
func (p *parser) evaluate(expr hcl.Expression, ctx *hcl.EvalContext) (cty.Value, bool) {
	syntax, ok := expr.(hclsyntax.Expression)
	if !ok {
		p.add(errorAt(expr.Range(), "Invalid expression", "This is not HCL's native syntax."))
		return cty.DynamicVal, false
	}
	v, diags := p.meter.value(syntax, ctx)
	p.add(diags...)
	if !diags.HasErrors() && v.IsWhollyKnown() {
		return v, true
	}
	// What is not known comes from something that was wrong, and said.
	if !p.diags.HasErrors() {
		p.add(errorAt(expr.Range(), "Value not known", "This cannot be worked out."))
	}
	return cty.DynamicVal, false
}

// undefined is what an unknown name means: what Nomad itself fills in where
// the task runs is passed on as it is written.
func (sc *scope) undefined(t hcl.Traversal) (cty.Value, hcl.Diagnostics) {
	root, at := t.RootName(), t.SourceRange()
	if atRuntime(root, len(t)) && at.End.Byte <= len(sc.text) && at.Start.Byte < at.End.Byte {
		return cty.StringVal("${" + string(sc.text[at.Start.Byte:at.End.Byte]) + "}"), nil
	}
	known := []string{"var", "local", "attr", "meta", "node", "env"}
	detail := "There is nothing called " + quote(root) + " here."
	if near := Nearest(root, known); near != "" {
		detail += " Did you mean " + quote(near) + "?"
	} else {
		detail += " Values are var.<name> and local.<name>; text is put in quotes; $${" + clip(root) + "} in a text stands for ${" + clip(root) + "} itself."
	}
	return cty.DynamicVal, hcl.Diagnostics{errorAt(at, "Unknown name", "%s", detail)}
}

// atRuntime tells the names that Nomad fills in: of the node and its devices,
// and environment variables, which are in capitals.
func atRuntime(root string, steps int) bool {
	switch root {
	case "attr", "meta", "node", "env", "device", "driver", "unique":
		return steps > 1
	}
	return steps == 1 && strings.ToUpper(root) == root || strings.HasPrefix(root, "NOMAD_")
}
