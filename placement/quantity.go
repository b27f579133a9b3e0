package placement

import (
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// quantity is the value of a device's attribute: a number with or without a
// unit, a boolean, or text. Exactly one of them.
type quantity struct {
	whole  *int64
	real   *float64
	truth  *bool
	text   *string
	unit   unit
	united bool // it has a unit
}

// unit is what a number counts, and how much of the base unit that is.
type unit struct {
	base     string
	factor   int64
	fraction bool // it is 1/factor of the base unit
}

// parseQuantity reads a value as Nomad does: what looks like a number is one.
func parseQuantity(text string) quantity {
	number := text
	var q quantity
	if text != "" && unicode.IsLetter(rune(text[len(text)-1])) {
		for n := min(5, len(text)); n > 0; n-- {
			if u, ok := unitOf(text[len(text)-n:]); ok {
				q.unit, q.united = u, true
				number = strings.TrimSpace(text[:len(text)-n])
				break
			}
		}
	}
	if i, err := strconv.ParseInt(number, 10, 64); err == nil {
		q.whole = &i
		return q
	}
	if f, err := strconv.ParseFloat(number, 64); err == nil {
		q.real = &f
		return q
	}
	if b, err := strconv.ParseBool(text); err == nil {
		return quantity{truth: &b}
	}
	return quantity{text: &text}
}

// textQuantity is text, whatever it looks like.
func textQuantity(text string) quantity { return quantity{text: &text} }

// unitOf returns the unit of a name such as "MiB", "GB/s" or "mW".
func unitOf(name string) (unit, bool) {
	switch name {
	case "MHz":
		return unit{base: "Hz", factor: 1e6}, true
	case "GHz":
		return unit{base: "Hz", factor: 1e9}, true
	case "mW":
		return unit{base: "W", factor: 1e3, fraction: true}, true
	case "W":
		return unit{base: "W", factor: 1}, true
	case "kW":
		return unit{base: "W", factor: 1e3}, true
	case "MW":
		return unit{base: "W", factor: 1e6}, true
	case "GW":
		return unit{base: "W", factor: 1e9}, true
	}
	bytes, rate := strings.CutSuffix(name, "/s")
	base := "B"
	if rate {
		base = "B/s"
	}
	prefix, binary := strings.CutSuffix(bytes, "iB")
	step := int64(1024)
	if !binary {
		var decimal bool
		if prefix, decimal = strings.CutSuffix(bytes, "B"); !decimal {
			return unit{}, false
		}
		step = 1000
	}
	power := strings.Index("KMGTPE", prefix)
	if prefix == "k" && !binary {
		power = 0
	}
	if len(prefix) != 1 || power < 0 {
		return unit{}, false
	}
	factor := step
	for range power {
		factor *= step
	}
	return unit{base: base, factor: factor}, true
}

// compare orders two values; ok is false where Nomad sees nothing to compare.
func (q quantity) compare(o quantity) (order int, ok bool) {
	if q.united != o.united || q.unit.base != o.unit.base {
		return 0, false
	}
	switch {
	case q.text != nil:
		if o.text == nil {
			return 0, false
		}
		return strings.Compare(*q.text, *o.text), true
	case q.truth != nil:
		if o.truth == nil {
			return 0, false
		}
		if *q.truth == *o.truth {
			return 0, true
		}
		return 1, true
	}
	a, b := q.number(), o.number()
	if a == nil || b == nil {
		return 0, false
	}
	return a.Cmp(b), true
}

// number is the value in the base unit; nil if it is none.
func (q quantity) number() *big.Float {
	f := new(big.Float).SetPrec(256)
	switch {
	case q.whole != nil:
		f.SetInt64(*q.whole)
	case q.real != nil && *q.real == *q.real: // not "NaN", which big.Float knows nothing of
		f.SetFloat64(*q.real)
	default:
		return nil
	}
	if !q.united {
		return f
	}
	factor := new(big.Float).SetPrec(256).SetInt64(q.unit.factor)
	if q.unit.fraction {
		return f.Quo(f, factor)
	}
	return f.Mul(f, factor)
}

// words is the value for operands that look at text or a version.
func (q quantity) words() (string, bool) {
	if q.text == nil {
		return "", false
	}
	return *q.text, true
}
