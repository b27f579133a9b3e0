package appspec

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// How large a task may be with its expressions worked out, in bytes and in
// attributes and blocks.
const (
	maxTaskText  = 4 << 20
	maxTaskItems = 10_000
)

// taskText writes a task block as HCL without expressions: each attribute has
// the value that it has in the spec, and dynamic blocks are written out. What
// Nomad fills in at run time stays as text. It remembers where each piece came
// from.
type taskText struct {
	*parser
	scope  *scope
	path   string // of the task itself
	kind   taskKind
	out    bytes.Buffer
	pieces []piece
	items  int   // attributes and blocks so far
	lines  []int // where each line starts, once the text is complete
}

// piece is where the text from an offset on came from.
type piece struct {
	start int
	from  hcl.Range
	said  bool // what is wrong here has been said already
}

func (t *taskText) write(text string, from hcl.Range) {
	t.pieces = append(t.pieces, piece{start: t.out.Len(), from: from})
	t.out.WriteString(text)
}

func (t *taskText) tooLong() bool {
	return t.out.Len() > maxTaskText || t.items > maxTaskItems
}

// source finds where in the spec a range of the text came from.
func (t *taskText) source(start, end hcl.Pos) (at hcl.Range, said bool) {
	first := t.pieceAt(t.offset(start))
	last := t.pieceAt(max(t.offset(start), t.offset(end)-1))
	at = first.from
	if last.from.End.Byte > at.Start.Byte {
		at = hcl.RangeBetween(at, last.from)
	}
	return at, first.said
}

func (t *taskText) pieceAt(offset int) piece {
	i := sort.Search(len(t.pieces), func(i int) bool { return t.pieces[i].start > offset })
	return t.pieces[max(0, i-1)]
}

// offset finds a line and column, which counts characters, in the text.
func (t *taskText) offset(at hcl.Pos) int {
	text := t.out.Bytes()
	if t.lines == nil {
		t.lines = append(t.lines, 0, 0) // lines count from 1
		for i, c := range text {
			if c == '\n' {
				t.lines = append(t.lines, i+1)
			}
		}
	}
	offset := t.lines[min(at.Line, len(t.lines)-1)]
	for column := 1; column < at.Column && offset < len(text); column++ {
		_, size := utf8.DecodeRune(text[offset:])
		offset += size
	}
	return offset
}

// item is an attribute or a block, in the order of the source.
type item struct {
	attr  *hclsyntax.Attribute
	block *hclsyntax.Block
	start int
}

func items(body *hclsyntax.Body) []item {
	var out []item
	for _, attr := range body.Attributes {
		out = append(out, item{attr: attr, start: attr.SrcRange.Start.Byte})
	}
	for _, block := range body.Blocks {
		out = append(out, item{block: block, start: block.TypeRange.Start.Byte})
	}
	slices.SortFunc(out, func(a, b item) int { return a.start - b.start })
	return out
}

// body writes what is in a block. The task's own body leaves out what is ours
// to set, and says so.
func (t *taskText) body(path string, body *hclsyntax.Body, ctx *hcl.EvalContext) {
	inTask := path == t.path
	for _, it := range items(body) {
		if t.items++; t.tooLong() {
			return
		}
		name, at := it.name()
		if instead, found := t.kind.ours(name); inTask && found {
			t.add(errorAt(at, "Not for the task block", "%s cannot be set here. %s", name, instead))
			continue
		}
		switch {
		case it.attr != nil:
			t.put(join(path, name), it.attr.SrcRange)
			t.reserved(path, it.attr)
			t.write(name, at)
			t.write(" = ", at)
			t.expression(it.attr.Expr, ctx)
			t.write("\n", at)
		case name == "dynamic":
			t.dynamic(path, it.block, ctx)
		default:
			t.put(join(path, name), at)
			t.block(path, it.block, ctx)
		}
	}
}

// reserved refuses environment variables here, so that it is said even when
// the job parser finds something else and gives the task up.
func (t *taskText) reserved(path string, attr *hclsyntax.Attribute) {
	if path != t.path+".env" {
		return
	}
	if problem := t.kind.envProblem(attr.Name, 0); problem != "" {
		t.spoil(join(path, attr.Name))
		t.add(errorAt(attr.NameRange, "Invalid env", "%s", problem))
	}
}

func (it item) name() (string, hcl.Range) {
	if it.attr != nil {
		return it.attr.Name, it.attr.NameRange
	}
	return it.block.Type, it.block.DefRange()
}

func (t *taskText) block(path string, block *hclsyntax.Block, ctx *hcl.EvalContext) {
	t.write(block.Type, block.TypeRange)
	for i, label := range block.Labels {
		t.write(" "+quotedHCL(label), block.LabelRanges[i])
	}
	t.write(" {\n", block.DefRange())
	t.body(join(path, block.Type), block.Body, ctx)
	t.write("}\n", block.CloseBraceRange)
}

// dynamic writes one block for each element of for_each.
func (t *taskText) dynamic(path string, block *hclsyntax.Block, ctx *hcl.EvalContext) {
	if len(block.Labels) != 1 {
		t.add(errorAt(block.DefRange(), "Invalid dynamic block", "A dynamic block has one label: the type of the blocks that it makes."))
		return
	}
	content, diags := block.Body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "for_each", Required: true}, {Name: "iterator"}, {Name: "labels"}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "content"}},
	})
	t.add(diags...)
	if len(content.Blocks) != 1 {
		t.add(errorAt(block.DefRange(), "Invalid dynamic block", "A dynamic block needs one content block."))
	}
	if diags.HasErrors() || len(content.Blocks) != 1 {
		return
	}
	if instead, found := t.kind.ours(block.Labels[0]); found && path == t.path {
		t.add(errorAt(block.LabelRanges[0], "Not for the task block", "%s cannot be set here. %s", block.Labels[0], instead))
		return
	}
	iterator := block.Labels[0]
	if attr, ok := content.Attributes["iterator"]; ok {
		if iterator = hcl.ExprAsKeyword(attr.Expr); iterator == "" {
			t.add(errorAt(attr.Expr.Range(), "Invalid iterator", "A bare name is needed."))
			return
		}
	}
	forEach := content.Attributes["for_each"].Expr
	each, ok := t.evaluate(forEach, ctx)
	if !ok {
		return
	}
	if each.IsNull() || !each.CanIterateElements() {
		t.add(errorAt(forEach.Range(), "Invalid for_each", "A list, set or map is needed; this is %s.", kindOf(each)))
		return
	}
	for it := each.ElementIterator(); it.Next() && !t.tooLong(); {
		t.items++
		key, value := it.Element()
		inner := ctx.NewChild()
		inner.Variables = map[string]cty.Value{iterator: cty.ObjectVal(map[string]cty.Value{"key": key, "value": value})}
		made := &hclsyntax.Block{
			Type: block.Labels[0], TypeRange: block.LabelRanges[0], Body: content.Blocks[0].Body.(*hclsyntax.Body),
			OpenBraceRange: block.OpenBraceRange, CloseBraceRange: block.CloseBraceRange,
		}
		if attr, ok := content.Attributes["labels"]; ok && !t.labels(made, attr.Expr, inner) {
			return
		}
		t.block(path, made, inner)
	}
}

// labels sets the labels of a block that a dynamic block makes.
func (t *taskText) labels(made *hclsyntax.Block, expr hcl.Expression, ctx *hcl.EvalContext) bool {
	v, ok := t.evaluate(expr, ctx)
	if !ok {
		return false
	}
	list, err := t.meter.convert(v, cty.List(cty.String))
	if err != nil || list.IsNull() || !list.IsWhollyKnown() {
		t.add(errorAt(expr.Range(), "Invalid labels", "A list of texts is needed."))
		return false
	}
	for _, label := range list.AsValueSlice() {
		made.Labels = append(made.Labels, text(label))
		made.LabelRanges = append(made.LabelRanges, expr.Range())
	}
	return true
}

// expression writes a value. Lists and objects are written part by part, so
// that a part that is wrong is found.
func (t *taskText) expression(expr hclsyntax.Expression, ctx *hcl.EvalContext) {
	switch e := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		t.write("[", e.OpenRange)
		for _, element := range e.Exprs {
			t.expression(element, ctx)
			t.write(", ", element.Range())
		}
		t.write("]", e.SrcRange)
	case *hclsyntax.ObjectConsExpr:
		t.write("{", e.OpenRange)
		for i, pair := range e.Items {
			if i > 0 {
				t.write(", ", pair.KeyExpr.Range())
			}
			t.key(pair.KeyExpr, ctx)
			t.write(" = ", pair.KeyExpr.Range())
			t.expression(pair.ValueExpr, ctx)
		}
		t.write("}", e.SrcRange)
	default:
		v, ok := t.evaluate(expr, ctx)
		if !ok {
			t.unknown(expr)
			return
		}
		literal := literalHCL(v)
		if strings.HasPrefix(literal, "{") {
			// A block's attribute that is written as an object means something
			// else to Nomad than one whose value is an object.
			literal = "(" + literal + ")"
		}
		t.write(literal, expr.Range())
	}
}

func (t *taskText) key(expr hclsyntax.Expression, ctx *hcl.EvalContext) {
	v, ok := t.evaluate(expr, ctx)
	if ok {
		var err error
		if v, err = convert.Convert(v, cty.String); err != nil || v.IsNull() {
			t.add(errorAt(expr.Range(), "Invalid key", "A key is a text."))
			ok = false
		}
	}
	if !ok {
		t.write(fmt.Sprintf("%q", fmt.Sprint("unknown", t.out.Len())), expr.Range())
		return
	}
	t.write(quotedHCL(v.AsString()), expr.Range())
}

// unknown writes null, which passes most of the job parser's checks; its other
// complaints about it are not passed on.
func (t *taskText) unknown(expr hclsyntax.Expression) {
	t.write("null", expr.Range())
	t.pieces[len(t.pieces)-1].said = true
}

// literalHCL writes a value that is wholly known.
func literalHCL(v cty.Value) string {
	switch t := v.Type(); {
	case v.IsNull():
		return "null"
	case t == cty.String:
		return quotedHCL(v.AsString())
	case t == cty.Number:
		return v.AsBigFloat().Text('f', -1)
	case t == cty.Bool:
		return fmt.Sprint(v.True())
	case t.IsObjectType() || t.IsMapType():
		var parts []string
		for it := v.ElementIterator(); it.Next(); {
			key, element := it.Element()
			parts = append(parts, quotedHCL(key.AsString())+" = "+literalHCL(element))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		var parts []string
		for it := v.ElementIterator(); it.Next(); {
			_, element := it.Element()
			parts = append(parts, literalHCL(element))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
}

// quotedHCL writes a text so that HCL reads the same text and nothing else: in
// ASCII, with no template in it.
func quotedHCL(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '{': // "${" and "%{" begin a template
			b.WriteString(`\u007b`)
		case r >= ' ' && r <= '~':
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
