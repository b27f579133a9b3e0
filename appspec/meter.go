package appspec

import (
	"fmt"
	"io/fs"
	"math/big"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// HCL bounds nothing: a spec of 92 bytes can ask for a list of a thousand
// million. A meter evaluates expressions under a budget. It puts itself between
// each expression and its parts, so that each step is paid for before the next
// one is taken, and functions are paid for from their actual arguments before
// they are called. A unit is roughly 100 ns or 16 bytes.
const (
	// budgetBase is there for any file, budgetPerByte for what it holds: an
	// expression that runs once is paid for by its own length.
	budgetBase    = 1_000_000
	budgetPerByte = 20

	stepCost      = 4
	iterationCost = 12
	bytesPerUnit  = 16

	maxValueDepth    = 100
	maxNumberBits    = 1100 // up to about 1e331, beyond float64's own range
	maxNumericString = 400
)

type meter struct {
	left    int
	spent   bool   // nothing more is evaluated, and it has been said
	failure string // why the expression at hand was given up

	functions map[string]function.Function
}

func newMeter(source int, files fs.FS) *meter {
	m := &meter{left: budgetBase + budgetPerByte*source}
	m.functions = m.meteredFunctions(files)
	return m
}

// givenUp unwinds an evaluation. Some of cty's functions turn it into an error
// of their own, so that meter.failure is what counts.
type givenUp struct{}

func (m *meter) charge(units int) {
	if m.left -= units; m.left < 0 {
		m.left = 0
		m.giveUp("Working this out takes more steps or more memory than a spec may use. Loops over large collections, or text that doubles from one local to the next, are the usual causes.")
	}
}

func (m *meter) giveUp(why string) {
	if m.failure == "" {
		m.failure = why
	}
	panic(givenUp{})
}

// value evaluates one expression. A value that cannot be had is unknown, with
// a diagnostic that says why, unless an earlier one did.
func (m *meter) value(expr hclsyntax.Expression, ctx *hcl.EvalContext) (v cty.Value, diags hcl.Diagnostics) {
	if m.spent {
		return cty.DynamicVal, nil
	}
	m.failure = ""
	defer func() {
		r := recover()
		if r == nil && m.failure == "" {
			return
		}
		if m.failure == "" {
			m.failure = fmt.Sprintf("HCL cannot evaluate it: %v.", r)
		}
		v, diags = cty.DynamicVal, hcl.Diagnostics{errorAt(expr.Range(), "Expression refused", "%s", m.failure)}
		m.spent = m.left <= 0
	}()
	v, diags = m.wrap(expr, modeMeasure).Value(ctx)
	if diags.HasErrors() {
		v = cty.DynamicVal
	}
	return v, diags
}

// costMode says what is done with a value, and so what it costs.
type costMode int8

const (
	modeUse     costMode = iota // it is passed on
	modeMeasure                 // it is looked through
	modeConvert                 // its types are brought together
	modeIterate                 // it is one of a loop's
)

// metered stands in for one expression of a tree.
type metered struct {
	hclsyntax.Expression
	meter *meter
	mode  costMode
}

// Value evaluates the expression and pays for it.
func (e *metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.meter.charge(stepCost)
	if e.mode == modeIterate {
		e.meter.charge(iterationCost)
	}
	v, diags := e.Expression.Value(ctx)
	switch {
	case e.mode == modeConvert:
		e.meter.measure(v, 0)
		e.meter.charge(unifyCost(v.Type()))
	case e.mode == modeMeasure || !refers(e.Expression):
		e.meter.measure(v, 0)
	default:
		e.meter.glance(v)
	}
	return v, diags
}

// UnwrapExpression shows the expression to those who read it without
// evaluating it, such as type constraints.
func (e *metered) UnwrapExpression() hcl.Expression { return e.Expression }

// refers tells expressions that only pass on a value which was paid for when
// it was made.
func refers(e hclsyntax.Expression) bool {
	switch e.(type) {
	case *checkedTraversal, *hclsyntax.RelativeTraversalExpr, *hclsyntax.IndexExpr,
		*hclsyntax.AnonSymbolExpr, *hclsyntax.ParenthesesExpr, *hclsyntax.TemplateWrapExpr:
		return true
	default:
		return false
	}
}

// measure pays for a whole value, however its parts are shared, and gives up
// on what other code could not bear.
func (m *meter) measure(v cty.Value, depth int) {
	if depth > maxValueDepth {
		m.giveUp(fmt.Sprintf("A value may be nested at most %d deep.", maxValueDepth))
	}
	m.glance(v)
	if v == cty.NilVal || !v.IsKnown() || v.IsNull() || !v.CanIterateElements() {
		return
	}
	for it := v.ElementIterator(); it.Next(); {
		key, element := it.Element()
		if key.IsKnown() && key.Type() == cty.String {
			m.glance(key)
		}
		m.measure(element, depth+1)
	}
}

// glance pays for a string or number, and one unit for anything else.
func (m *meter) glance(v cty.Value) {
	m.charge(1)
	if v == cty.NilVal || !v.IsKnown() || v.IsNull() {
		return
	}
	switch v.Type() {
	case cty.String:
		m.charge(len(v.AsString()) / bytesPerUnit)
	case cty.Number:
		if tooLarge(v.AsBigFloat()) {
			m.giveUp("A number here is too large or too small; up to about 1e308 can be used.")
		}
	}
}

func tooLarge(x *big.Float) bool {
	if x.IsInf() {
		return true
	}
	exponent := x.MantExp(nil)
	return exponent > maxNumberBits || exponent < -maxNumberBits
}

// unifyCost is what it takes to find one type for all elements of a collection
// that holds different ones: each is tried against each other.
func unifyCost(t cty.Type) int {
	var elements []cty.Type
	switch {
	case t == cty.NilType:
		return 0
	case t.IsTupleType():
		elements = t.TupleElementTypes()
	case t.IsObjectType():
		for _, element := range t.AttributeTypes() {
			elements = append(elements, element)
		}
	case t.IsCollectionType():
		return unifyCost(t.ElementType())
	}
	if len(elements) == 0 {
		return 0
	}
	cost, same := 0, true
	for _, element := range elements {
		if same && !element.Equals(elements[0]) {
			same = false
		}
	}
	if same {
		return len(elements) + unifyCost(elements[0])
	}
	for _, element := range elements {
		cost += unifyCost(element) + typeSize(element)*len(elements)
	}
	return cost
}

func typeSize(t cty.Type) int {
	size := 1
	switch {
	case t.IsTupleType():
		for _, element := range t.TupleElementTypes() {
			size += typeSize(element)
		}
	case t.IsObjectType():
		for _, element := range t.AttributeTypes() {
			size += typeSize(element)
		}
	case t.IsCollectionType():
		size += typeSize(t.ElementType())
	}
	return size
}
