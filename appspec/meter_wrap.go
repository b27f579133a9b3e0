package appspec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// wrap returns expr with the meter between it and each of its parts. The tree
// itself is not changed.
func (m *meter) wrap(expr hclsyntax.Expression, mode costMode) hclsyntax.Expression {
	if expr == nil {
		return nil
	}
	return &metered{Expression: m.parts(expr), meter: m, mode: mode}
}

func (m *meter) wrapAll(exprs []hclsyntax.Expression, mode costMode) []hclsyntax.Expression {
	out := make([]hclsyntax.Expression, len(exprs))
	for i, expr := range exprs {
		out[i] = m.wrap(expr, mode)
	}
	return out
}

func (m *meter) parts(expr hclsyntax.Expression) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.ParenthesesExpr:
		c := *e
		c.Expression = m.wrap(e.Expression, modeUse)
		return &c
	case *hclsyntax.ScopeTraversalExpr:
		return &checkedTraversal{ScopeTraversalExpr: e}
	case *hclsyntax.RelativeTraversalExpr:
		c := *e
		c.Source = m.wrap(e.Source, modeUse)
		return &c
	case *hclsyntax.IndexExpr:
		c := *e
		c.Collection, c.Key = m.wrap(e.Collection, modeUse), m.operand(e.Key)
		return &c
	case *hclsyntax.FunctionCallExpr:
		return m.call(e)
	case *hclsyntax.ConditionalExpr:
		c := *e
		c.Condition = m.wrap(e.Condition, modeUse)
		c.TrueResult, c.FalseResult = m.wrap(e.TrueResult, modeConvert), m.wrap(e.FalseResult, modeConvert)
		return &c
	case *hclsyntax.BinaryOpExpr:
		c := *e
		if e.Op == hclsyntax.OpEqual || e.Op == hclsyntax.OpNotEqual {
			c.LHS, c.RHS = m.wrap(e.LHS, modeMeasure), m.wrap(e.RHS, modeMeasure)
		} else {
			c.LHS, c.RHS = m.operand(e.LHS), m.operand(e.RHS)
		}
		return &c
	case *hclsyntax.UnaryOpExpr:
		c := *e
		c.Val = m.operand(e.Val)
		return &c
	default:
		return m.collectionParts(expr)
	}
}

func (m *meter) collectionParts(expr hclsyntax.Expression) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.TupleConsExpr:
		c := *e
		c.Exprs = m.wrapAll(e.Exprs, modeUse)
		return &c
	case *hclsyntax.ObjectConsExpr:
		c := *e
		c.Items = make([]hclsyntax.ObjectConsItem, len(e.Items))
		for i, item := range e.Items {
			c.Items[i] = hclsyntax.ObjectConsItem{
				KeyExpr:   m.wrap(item.KeyExpr, modeUse),
				ValueExpr: m.wrap(item.ValueExpr, modeUse),
			}
		}
		return &c
	case *hclsyntax.ObjectConsKeyExpr:
		c := *e
		// A bare name as a key is told by its type, which must stay.
		if _, bare := e.Wrapped.(*hclsyntax.ScopeTraversalExpr); !bare {
			c.Wrapped = m.wrap(e.Wrapped, modeUse)
		}
		return &c
	case *hclsyntax.ForExpr:
		c := *e
		c.CollExpr = m.wrap(e.CollExpr, modeUse)
		c.KeyExpr, c.CondExpr = m.wrap(e.KeyExpr, modeUse), m.wrap(e.CondExpr, modeIterate)
		c.ValExpr = m.wrap(e.ValExpr, modeIterate)
		return &c
	case *hclsyntax.SplatExpr:
		c := *e
		c.Source, c.Each = m.wrap(e.Source, modeUse), m.wrap(e.Each, modeIterate)
		return &c
	case *hclsyntax.TemplateExpr:
		c := *e
		c.Parts = m.wrapAll(e.Parts, modeUse)
		return &c
	case *hclsyntax.TemplateJoinExpr:
		c := *e
		c.Tuple = m.wrap(e.Tuple, modeUse)
		return &c
	case *hclsyntax.TemplateWrapExpr:
		c := *e
		c.Wrapped = m.wrap(e.Wrapped, modeUse)
		return &c
	default: // literals, and the item of a splat, which is known by its address
		return expr
	}
}

func (m *meter) call(e *hclsyntax.FunctionCallExpr) hclsyntax.Expression {
	if why, refused := refusedFunction(e.Name); refused {
		return &refusal{e, errorAt(e.NameRange, "Function not available in a spec", "%s", why)}
	}
	c := *e
	c.Args = m.wrapAll(e.Args, modeConvert)
	for i := range c.Args {
		if m.takesNumber(e.Name, i) {
			c.Args[i] = &operand{c.Args[i], m}
		}
	}
	return &c
}

func (m *meter) takesNumber(function string, arg int) bool {
	f, known := m.functions[function]
	if !known {
		return false
	}
	if params := f.Params(); arg < len(params) {
		return params[arg].Type == cty.Number || function == "convert"
	}
	rest := f.VarParam()
	return rest != nil && rest.Type == cty.Number
}

// operand wraps what an operator turns into a number, which takes time that
// grows with the square of its length when it is a string.
func (m *meter) operand(e hclsyntax.Expression) hclsyntax.Expression {
	return &operand{m.wrap(e, modeMeasure), m}
}

type operand struct {
	hclsyntax.Expression
	meter *meter
}

// Value evaluates the operand, and refuses a text that is no number anybody
// wrote.
func (e *operand) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	if isLongString(v) {
		e.meter.giveUp(fmt.Sprintf("A text of %d characters is used as a number here.", len(v.AsString())))
	}
	return v, diags
}

func isLongString(v cty.Value) bool {
	return v != cty.NilVal && v.Type() == cty.String && v.IsKnown() && !v.IsNull() && len(v.AsString()) > maxNumericString
}

// refusal is an expression that is not evaluated.
type refusal struct {
	hclsyntax.Expression
	diag *hcl.Diagnostic
}

// Value says why.
func (e *refusal) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	return cty.DynamicVal, hcl.Diagnostics{e.diag}
}

// checkedTraversal says what there is when a variable or local is not.
type checkedTraversal struct {
	*hclsyntax.ScopeTraversalExpr
}

// Value follows the traversal.
func (e *checkedTraversal) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if diag := undeclared(e.Traversal, ctx); diag != nil {
		return cty.DynamicVal, hcl.Diagnostics{diag}
	}
	return e.ScopeTraversalExpr.Value(ctx)
}

func undeclared(t hcl.Traversal, ctx *hcl.EvalContext) *hcl.Diagnostic {
	what := map[string]string{"var": "variable", "local": "local"}[t.RootName()]
	if what == "" || len(t) < 2 {
		return nil
	}
	step, ok := t[1].(hcl.TraverseAttr)
	if !ok {
		return nil
	}
	for ; ctx != nil; ctx = ctx.Parent() {
		scope, found := ctx.Variables[t.RootName()]
		if !found {
			continue
		}
		if !scope.Type().IsObjectType() || scope.Type().HasAttribute(step.Name) {
			return nil
		}
		detail := fmt.Sprintf("There is no %s %s in this file.", what, quote(step.Name))
		if near := Nearest(step.Name, slices.Sorted(maps.Keys(scope.Type().AttributeTypes()))); near != "" {
			detail += fmt.Sprintf(" Did you mean %s.%s?", t.RootName(), near)
		}
		return errorAt(step.SrcRange, "Unknown "+what, "%s", detail)
	}
	return nil
}
