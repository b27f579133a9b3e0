package appspec

import (
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// decoder reads the attributes and blocks of one block of ours. A path is
// where it stands in the spec, as in Fault.
type decoder struct {
	*parser
	scope   *scope
	path    string
	at      hcl.Range
	content *hcl.BodyContent
}

// fieldNames is what a block may hold.
type fieldNames struct {
	attributes []string
	blocks     []string
	labelled   []string // blocks with one label
}

func (p *parser) decode(sc *scope, path string, block *hcl.Block, names fieldNames) *decoder {
	schema := &hcl.BodySchema{}
	for _, name := range names.attributes {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: name})
	}
	for _, name := range names.blocks {
		schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: name})
	}
	for _, name := range names.labelled {
		schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: name, LabelNames: []string{"name"}})
	}
	content, diags := block.Body.Content(schema)
	suggestNearest(diags, names.attributes)
	p.add(diags...)
	p.put(path, block.DefRange)
	for name, attr := range content.Attributes {
		p.put(path+"."+name, attr.Expr.Range())
	}
	return &decoder{parser: p, scope: sc, path: path, at: block.DefRange, content: content}
}

// suggestNearest mends hcl's suggestions for arguments: hcl takes the first name
// that is near, and to it gpus is as good as cpu.
func suggestNearest(diags hcl.Diagnostics, names []string) {
	for _, d := range diags {
		var name string
		plain, _, found := strings.Cut(d.Detail, " Did you mean \"")
		if _, err := fmt.Sscanf(plain, "An argument named %q", &name); !found || err != nil {
			continue
		}
		if near := Nearest(name, names); near != "" {
			d.Detail = plain + fmt.Sprintf(" Did you mean %q?", near)
		}
	}
}

// block returns the only block of a type, or nil.
func (d *decoder) block(name string) *hcl.Block {
	blocks := d.content.Blocks.OfType(name)
	if len(blocks) == 0 {
		return nil
	}
	for _, second := range blocks[1:] {
		d.add(errorAt(second.DefRange, "Block given twice", "There is another %s block already, at line %d; one is allowed.", name, blocks[0].DefRange.Start.Line))
	}
	return blocks[0]
}

// value evaluates an attribute, if it is there and not null.
func (d *decoder) value(name string) (cty.Value, bool) {
	attr, there := d.content.Attributes[name]
	if !there {
		return cty.NilVal, false
	}
	v, ok := d.evaluate(attr.Expr, d.scope.ctx)
	if !ok {
		d.spoil(d.path + "." + name)
		return cty.NilVal, false
	}
	return v, !v.IsNull()
}

// wrong says what an attribute needs.
func (d *decoder) wrong(name, format string, args ...any) {
	d.spoil(d.path + "." + name)
	d.add(errorAt(d.content.Attributes[name].Expr.Range(), "Invalid "+name, format, args...))
}

func (d *decoder) text(name string, to *string) {
	v, ok := d.value(name)
	if !ok {
		return
	}
	if v.Type() != cty.String {
		d.wrong(name, "A text in quotes is needed; this is %s.", kindOf(v))
		return
	}
	*to = v.AsString()
}

func (d *decoder) number(name string) (*big.Float, bool) {
	v, ok := d.value(name)
	if !ok {
		return nil, false
	}
	if isLongString(v) {
		d.wrong(name, "A number is needed.")
		return nil, false
	}
	n, err := convert.Convert(v, cty.Number)
	if err != nil || n.IsNull() || tooLarge(n.AsBigFloat()) {
		d.wrong(name, "A number is needed; this is %s.", kindOf(v))
		return nil, false
	}
	return n.AsBigFloat(), true
}

// whole reads a whole number and says whether it has.
func (d *decoder) whole(name string, to *int) bool {
	n := int64(*to)
	if !d.long(name, &n) {
		return false
	}
	if int64(int(n)) != n {
		d.wrong(name, "%d is far beyond what this can be.", n)
		return false
	}
	*to = int(n)
	return true
}

// long is whole for numbers that may be beyond an int where that has 32 bits.
func (d *decoder) long(name string, to *int64) bool {
	x, ok := d.number(name)
	if !ok {
		return false
	}
	n, accuracy := x.Int64()
	if accuracy != big.Exact && x.IsInt() {
		d.wrong(name, "%s is far beyond what this can be.", x.Text('g', 10))
		return false
	}
	if accuracy != big.Exact {
		d.wrong(name, "A whole number is needed; this is %s.", x.Text('g', 10))
		return false
	}
	*to = n
	return true
}

// optionalWhole is nil when the attribute is not set. What is no whole number
// reads as standIn, so that nothing takes it to be absent.
func (d *decoder) optionalWhole(name string, standIn int) *int {
	n := standIn
	if !d.whole(name, &n) && !d.bad[d.path+"."+name] {
		return nil
	}
	return &n
}

func (d *decoder) decimal(name string, to *float64) {
	if x, ok := d.number(name); ok {
		*to, _ = x.Float64()
	}
}

func (d *decoder) truth(name string) *bool {
	v, ok := d.value(name)
	if !ok {
		return nil
	}
	if v.Type() != cty.Bool {
		d.wrong(name, "true or false is needed; this is %s.", kindOf(v))
		return nil
	}
	return new(v.True())
}

func (d *decoder) flag(name string, to *bool) {
	if v := d.truth(name); v != nil {
		*to = *v
	}
}

func (d *decoder) duration(name string, to *Duration) {
	v, ok := d.value(name)
	if !ok {
		return
	}
	if v.Type() != cty.String {
		d.wrong(name, "A duration is a text with a unit, such as \"30s\" or \"1m30s\"; this is %s.", kindOf(v))
		return
	}
	parsed, err := time.ParseDuration(v.AsString())
	if err != nil {
		d.wrong(name, "%s is no duration; write a number and its unit, such as \"30s\", \"500ms\" or \"1h\".", quote(v.AsString()))
		return
	}
	*to = Duration(parsed)
}

// memory takes "1GiB" and the like, or a number of MiB.
func (d *decoder) memory(name string, to *int) {
	v, ok := d.value(name)
	if !ok {
		return
	}
	if v.Type() == cty.Number {
		d.whole(name, to)
		return
	}
	if v.Type() != cty.String {
		d.wrong(name, "A text with a unit, such as \"512MiB\", or a number of MiB is needed; this is %s.", kindOf(v))
		return
	}
	mb, problem := parseMemory(v.AsString())
	if problem != "" {
		d.wrong(name, "%s", problem)
		return
	}
	*to = mb
}

// parseMemory reads a size and rounds it up to whole MiB.
func parseMemory(s string) (mb int, problem string) {
	problem = fmt.Sprintf("%s is no amount of memory; write a number and its unit, such as \"512MiB\" or \"1.5GiB\" (KiB, MiB, GiB, TiB, or KB, MB, GB, TB), or a number of MiB.", quote(s))
	digits := strings.TrimLeft(s, "0123456789.")
	number, unit := s[:len(s)-len(digits)], strings.TrimSpace(digits)
	bytes := map[string]float64{
		"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
		"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	}[strings.ToUpper(unit)]
	if bytes == 0 || len(number) > 20 {
		return 0, problem
	}
	var x float64
	if _, err := fmt.Sscanf(number, "%g", &x); err != nil || strings.Count(number, ".") > 1 {
		return 0, problem
	}
	mib := math.Ceil(x * bytes / (1 << 20))
	if mib > maxMemoryMB {
		return 0, fmt.Sprintf("%s is too much; at most %s can be asked for.", quote(s), memoryText(maxMemoryMB))
	}
	return int(mib), ""
}

// texts reads a list of texts.
func (d *decoder) texts(name, example string) []string {
	v, ok := d.value(name)
	if !ok {
		return nil
	}
	out := []string{}
	if kindOf(v) == "a list" {
		for _, element := range v.AsValueSlice() {
			if !element.IsNull() && element.Type() == cty.String {
				out = append(out, element.AsString())
			}
		}
		if len(out) == v.LengthInt() {
			d.putElements(name)
			return out
		}
	}
	d.wrong(name, "A list of texts is needed, such as %s.", example)
	return nil
}

// putElements remembers where the elements of a list are.
func (d *decoder) putElements(name string) {
	if list, ok := unwrapped(d.content.Attributes[name].Expr).(*hclsyntax.TupleConsExpr); ok {
		for i, expr := range list.Exprs {
			d.put(fmt.Sprintf("%s.%s[%d]", d.path, name, i), expr.Range())
		}
	}
}

// textMap reads names with a text each; a number, true and false are taken as
// they are written.
func (d *decoder) textMap(name, example string) map[string]string {
	v, ok := d.value(name)
	if !ok {
		return nil
	}
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		d.wrong(name, "An object is needed, such as %s; this is %s.", example, kindOf(v))
		return nil
	}
	out := map[string]string{}
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		value, err := d.meter.convert(element, cty.String)
		if err != nil || value.IsNull() || !value.IsKnown() {
			d.wrong(name, "%s needs a text, a number, true or false; this is %s.", clip(key.AsString()), kindOf(element))
			return nil
		}
		out[key.AsString()] = value.AsString()
	}
	d.putItems(name)
	return out
}

// putItems remembers where the items of an object are, those whose names are
// written out.
func (d *decoder) putItems(name string) {
	object, ok := unwrapped(d.content.Attributes[name].Expr).(*hclsyntax.ObjectConsExpr)
	if !ok {
		return
	}
	for _, item := range object.Items {
		key := hcl.ExprAsKeyword(item.KeyExpr)
		if wrapped, ok := item.KeyExpr.(*hclsyntax.ObjectConsKeyExpr); ok && key == "" {
			key, _ = literalText(wrapped.Wrapped)
		}
		if key != "" {
			d.put(join(d.path+"."+name, clip(key)), hcl.RangeBetween(item.KeyExpr.Range(), item.ValueExpr.Range()))
		}
	}
}

// reference reads deployment.<name>, which is a name and not a value. It is ""
// when it is none, which has been said then.
func (d *decoder) reference(name string, expr hcl.Expression) string {
	expr = unwrapped(expr)
	traversal, diags := hcl.AbsTraversalForExpr(expr)
	if !diags.HasErrors() && len(traversal) == 2 && traversal.RootName() == "deployment" {
		if step, ok := traversal[1].(hcl.TraverseAttr); ok {
			return step.Name
		}
	}
	d.spoil(d.path + "." + name)
	hint := "deployment.<name>"
	if text, ok := literalText(expr); ok && nameProblem(text) == "" {
		hint = "deployment." + text
	} else if len(traversal) == 1 && nameProblem(traversal.RootName()) == "" {
		hint = "deployment." + traversal.RootName()
	}
	d.add(errorAt(expr.Range(), "Invalid reference", "A deployment is referred to as %s, without quotes.", hint))
	return ""
}

func unwrapped(expr hcl.Expression) hcl.Expression {
	for {
		parens, ok := expr.(*hclsyntax.ParenthesesExpr)
		if !ok {
			return expr
		}
		expr = parens.Expression
	}
}

func literalText(expr hcl.Expression) (string, bool) {
	template, ok := expr.(*hclsyntax.TemplateExpr)
	if !ok || !template.IsStringLiteral() {
		return "", false
	}
	v, diags := template.Value(nil)
	if diags.HasErrors() {
		return "", false
	}
	return v.AsString(), true
}

func kindOf(v cty.Value) string {
	switch t := v.Type(); {
	case v.IsNull():
		return "null"
	case t == cty.String:
		return "the text " + quote(v.AsString())
	case t == cty.Number:
		return "the number " + v.AsBigFloat().Text('g', 10)
	case t == cty.Bool:
		return fmt.Sprint(v.True())
	case t.IsObjectType() || t.IsMapType():
		return "an object"
	default:
		return "a list"
	}
}
