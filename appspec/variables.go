package appspec

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// assignment is a value for a variable from a file of values.
type assignment struct {
	name string
	expr hclsyntax.Expression
	at   hcl.Range
	from string
}

// varFiles reads the files of values. They are evaluated once a file declares
// the variable, since its type matters.
func (p *parser) varFiles() {
	for _, f := range p.source.VarFiles {
		body := p.syntax(f)
		if body == nil {
			continue
		}
		for _, block := range body.Blocks {
			p.add(errorAt(block.TypeRange, "No block allowed here",
				"A file of values holds lines such as name = \"value\" only; %s blocks belong into the spec.", clip(block.Type)))
		}
		for _, attr := range sortedAttributes(body) {
			p.assignments = append(p.assignments, assignment{attr.Name, attr.Expr, attr.NameRange, f.Name})
		}
	}
}

func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(body.Attributes), func(a, b *hclsyntax.Attribute) int {
		return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte
	})
}

// unusedVars refuses values for variables that no file declares, except from
// the environment, which other specs share.
func (p *parser) unusedVars() {
	for _, name := range slices.Sorted(maps.Keys(p.source.Vars)) {
		if !p.used[name] {
			p.add(&hcl.Diagnostic{
				Severity: hcl.DiagError,
				Summary:  "Unknown variable",
				Detail:   "-var sets " + quote(name) + ", which no file declares." + p.suggestVariable(name),
			})
		}
	}
	for _, a := range p.assignments {
		if !p.used[a.name] {
			p.add(errorAt(a.at, "Unknown variable", "%s sets %s, which no file declares.%s", a.from, quote(a.name), p.suggestVariable(a.name)))
		}
	}
}

func (p *parser) suggestVariable(name string) string {
	if near := Nearest(name, slices.Sorted(maps.Keys(p.used))); near != "" {
		return " Did you mean " + quote(near) + "?"
	}
	return ""
}

// variable is one variable block.
type variable struct {
	name       string
	typ        cty.Type // NilType: any
	value      cty.Value
	at         hcl.Range
	set        bool
	validation []*hclsyntax.Block
}

func (p *parser) variables(blocks hcl.Blocks) map[string]cty.Value {
	values := map[string]cty.Value{}
	if len(blocks) > maxLocals {
		p.add(errorAt(blocks[maxLocals].DefRange, "Too many variables", "A file may have at most %d variables; this one has %d.", maxLocals, len(blocks)))
		return values
	}
	for _, block := range blocks {
		v := &variable{name: block.Labels[0], at: block.DefRange, value: cty.DynamicVal}
		if !hclsyntax.ValidIdentifier(v.name) {
			p.add(errorAt(block.LabelRanges[0], "Invalid variable name", "%s cannot be written after var.; use letters, digits, '_' and '-'.", quote(v.name)))
			continue
		}
		if _, twice := values[v.name]; twice {
			p.add(errorAt(block.DefRange, "Variable declared twice", "There is already a variable %s in this file.", quote(v.name)))
			continue
		}
		p.used[v.name] = true
		if p.declare(v, block.Body) {
			p.assign(v)
		}
		values[v.name] = v.value
	}
	return values
}

// declare reads a variable block. It returns false when the type is not known.
func (p *parser) declare(v *variable, body hcl.Body) bool {
	content, diags := body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "type"}, {Name: "default"}, {Name: "description"}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "validation"}},
	})
	p.add(diags...)
	if attr, ok := content.Attributes["type"]; ok {
		typ, diags := typeexpr.Type(attr.Expr)
		p.add(diags...)
		if diags.HasErrors() {
			return false
		}
		v.typ = typ
	}
	if attr, ok := content.Attributes["description"]; ok {
		if text, ok := p.evaluate(attr.Expr, nil); ok && text.Type() != cty.String {
			p.add(errorAt(attr.Expr.Range(), "Invalid description", "A text in quotes is needed."))
		}
	}
	if attr, ok := content.Attributes["default"]; ok {
		value, ok := p.evaluate(attr.Expr, nil)
		p.setTo(v, value, attr.Expr.Range(), ok)
		if v.typ == cty.NilType && ok {
			v.typ = v.value.Type()
		}
	}
	for _, block := range body.(*hclsyntax.Body).Blocks {
		if block.Type == "validation" {
			v.validation = append(v.validation, block)
		}
	}
	return true
}

// assign looks for values from outside: the environment, then files of values,
// then -var, the last one winning.
func (p *parser) assign(v *variable) {
	for _, entry := range p.source.Env {
		if text, ok := strings.CutPrefix(entry, EnvPrefix+v.name+"="); ok {
			p.setFromText(v, text, "the environment variable "+EnvPrefix+v.name)
		}
	}
	for _, a := range p.assignments {
		if a.name == v.name {
			value, ok := p.evaluate(a.expr, nil)
			p.setTo(v, value, a.expr.Range(), ok)
		}
	}
	if text, ok := p.source.Vars[v.name]; ok {
		p.setFromText(v, text, "-var "+v.name)
	}
	if !v.set {
		p.add(errorAt(v.at, "Variable not set",
			"Set it with -var '%[1]s=...', with a -var-file, with the environment variable %[2]s%[1]s, or give it a default.", v.name, EnvPrefix))
		return
	}
	for _, block := range v.validation {
		p.validation(v, block)
	}
}

// setFromText takes a text as it is for a string or a number, and as an HCL
// expression for other types.
func (p *parser) setFromText(v *variable, text, from string) {
	p.sources[from] = &hcl.File{Bytes: clipBytes([]byte(text))}
	where := positionOf(from, []byte(text), 0)
	where.End.Column += max(0, utf8.RuneCountInString(lineAt([]byte(text), 0))-1)
	if v.typ == cty.NilType || v.typ == cty.String || v.typ == cty.Number {
		p.setTo(v, cty.StringVal(text), where, true)
		return
	}
	if diags := prescan(from, []byte(text)); diags.HasErrors() {
		p.add(diags...)
		p.setTo(v, cty.DynamicVal, where, false)
		return
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), from, hcl.InitialPos)
	p.add(diags...)
	if diags.HasErrors() {
		p.setTo(v, cty.DynamicVal, where, false)
		return
	}
	value, ok := p.evaluate(expr, nil)
	p.setTo(v, value, expr.Range(), ok)
}

// setTo gives the variable a value of its type.
func (p *parser) setTo(v *variable, value cty.Value, at hcl.Range, ok bool) {
	v.set = true
	v.value = cty.DynamicVal
	if !ok {
		return
	}
	if v.typ != cty.NilType {
		converted, err := p.meter.convert(value, v.typ)
		if err != nil {
			p.add(errorAt(at, "Invalid value for a variable", "Variable %s needs a %s: %s.", quote(v.name), clip(v.typ.FriendlyName()), err))
			return
		}
		value = converted
	}
	v.value = value
}

// validation applies one validation block of a variable.
func (p *parser) validation(v *variable, block *hclsyntax.Block) {
	content, diags := block.Body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{
		{Name: "condition", Required: true}, {Name: "error_message", Required: true},
	}})
	p.add(diags...)
	if diags.HasErrors() || !v.value.IsWhollyKnown() {
		return
	}
	ctx := &hcl.EvalContext{
		Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{v.name: v.value})},
		Functions: p.meter.functions,
	}
	condition, message := content.Attributes["condition"].Expr, content.Attributes["error_message"].Expr
	holds, ok := p.evaluate(condition, ctx)
	words, said := p.evaluate(message, nil)
	if !ok || !said {
		return
	}
	if holds.Type() != cty.Bool || holds.IsNull() {
		p.add(errorAt(condition.Range(), "Invalid condition", "A validation condition must be true or false."))
		return
	}
	if words.Type() != cty.String || words.IsNull() {
		p.add(errorAt(message.Range(), "Invalid error_message", "A text in quotes is needed."))
		return
	}
	if holds.False() {
		p.add(errorAt(v.at, "Invalid value for a variable", "%s", words.AsString()))
	}
}

// convert is cty's conversion, under the meter. It is not called for what
// would take cty long.
func (m *meter) convert(v cty.Value, to cty.Type) (out cty.Value, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = cty.DynamicVal, errTooMuch
		}
	}()
	if to == cty.Number && isLongString(v) {
		return cty.DynamicVal, errTooMuch
	}
	m.measure(v, 0)
	m.charge(unifyCost(v.Type()))
	out, err = convert.Convert(v, to)
	if err != nil {
		return cty.DynamicVal, err
	}
	m.measure(out, 0)
	return out, nil
}
