package appspec

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

var (
	errTooMuch = errors.New("the result would be too large")
	errRegexp  = errors.New("a pattern between slashes is not supported here, only plain text")
)

// maxProduct keeps the arithmetic of costs far from overflowing.
const maxProduct = math.MaxInt32

func times(a, b int) int {
	if a == 0 || b == 0 {
		return 0
	}
	if a > maxProduct/b {
		return maxProduct
	}
	return a * b
}

// text is a string argument; "" stands for null, which the function refuses.
func text(v cty.Value) string {
	if v.IsNull() || v.Type() != cty.String {
		return ""
	}
	return v.AsString()
}

func count(v cty.Value) int {
	if v.IsNull() || !v.CanIterateElements() {
		return 0
	}
	return v.LengthInt()
}

// byLength is for text that falls into many small values.
func byLength(args []cty.Value) (int, error) {
	total := 0
	for _, arg := range args {
		total += len(text(arg))
	}
	return total, nil
}

// bySquare is for collections whose elements are compared with each other.
func bySquare(args []cty.Value) (int, error) {
	total := 0
	for _, arg := range args {
		total += count(arg)
	}
	return times(total, total), nil
}

func productCost(args []cty.Value) (int, error) {
	total := 1
	for _, arg := range args {
		total = times(total, count(arg))
	}
	return times(total, 4*len(args)), nil
}

func joinCost(args []cty.Value) (int, error) {
	elements := 0
	for _, list := range args[1:] {
		elements += count(list)
	}
	return times(len(text(args[0])), elements) / bytesPerUnit, nil
}

func indentCost(args []cty.Value) (int, error) {
	spaces, _ := args[0].AsBigFloat().Int64()
	if spaces > 1000 {
		return 0, errTooMuch
	}
	return times(strings.Count(text(args[1]), "\n"), int(spaces)) / bytesPerUnit, nil
}

func replaceCost(args []cty.Value) (int, error) {
	in, what, with := text(args[0]), text(args[1]), text(args[2])
	if len(what) > 1 && what[0] == '/' && what[len(what)-1] == '/' {
		return 0, errRegexp
	}
	return times(strings.Count(in, what), len(with)) / bytesPerUnit, nil
}

func parseIntCost(args []cty.Value) (int, error) {
	if len(text(args[0])) > maxNumericString {
		return 0, errors.New("the number is too long")
	}
	return 0, nil
}

// jsonCost refuses what is nested so deep that cty would have to recurse far.
func jsonCost(args []cty.Value) (int, error) {
	depth, quoted, escaped := 0, false, false
	in := text(args[0])
	for i := range len(in) {
		switch c := in[i]; {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			if depth++; depth > maxValueDepth {
				return 0, fmt.Errorf("it is nested more than %d deep", maxValueDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return len(in), nil
}

func formatCost(args []cty.Value) (int, error) {
	verbs, err := formatVerbs(text(args[0]))
	if err != nil {
		return 0, err
	}
	longest := 0
	for _, arg := range args[1:] {
		size, err := formattedSize(arg, 0)
		if err != nil {
			return 0, err
		}
		longest = max(longest, size)
	}
	// A verb may name its argument, so each may print the longest.
	return times(verbs, longest+2*maxWidth) / bytesPerUnit, nil
}

func formatListCost(args []cty.Value) (int, error) {
	each, err := formatCost(args)
	rows := 1
	for _, arg := range args[1:] {
		rows = max(rows, count(arg))
	}
	return times(rows, each+stepCost), err
}

// maxWidth is the widest that a format verb may print, and its most digits.
const maxWidth = 100

// formatVerbs counts a format's verbs, and refuses wide ones.
func formatVerbs(format string) (int, error) {
	verbs, number, inVerb := 0, 0, false
	for i := range len(format) {
		c := format[i]
		switch {
		case !inVerb:
			if c == '%' {
				verbs++
				number, inVerb = 0, true
			}
		case c >= '0' && c <= '9':
			if number = number*10 + int(c-'0'); number > maxWidth {
				return 0, fmt.Errorf("a width or precision may be at most %d", maxWidth)
			}
		case c == '*':
			return 0, errors.New("a width or precision must be written as a number")
		case strings.IndexByte("+-# .[]", c) >= 0:
			number = 0
		default:
			inVerb = false
		}
	}
	return verbs, nil
}

// formattedSize bounds what a value prints as, and refuses text that would be
// read as a number with an enormous exponent.
func formattedSize(v cty.Value, depth int) (int, error) {
	if v.IsNull() || !v.IsKnown() || depth > maxValueDepth {
		return 8, nil
	}
	switch {
	case v.Type() == cty.String:
		s := v.AsString()
		if hugeNumber(s) {
			return 0, errors.New("a text that is an enormous number cannot be formatted")
		}
		return 6*len(s) + 2, nil
	case v.Type() == cty.Number:
		return maxNumericString, nil
	case v.CanIterateElements():
		total := 2
		for it := v.ElementIterator(); it.Next(); {
			key, element := it.Element()
			size, err := formattedSize(element, depth+1)
			if err != nil {
				return 0, err
			}
			total += size + 6*len(text(key)) + 4
		}
		return total, nil
	default:
		return 8, nil
	}
}

func hugeNumber(s string) bool {
	if strings.Trim(s, "+-0123456789.eE") != "" {
		return false
	}
	if len(s) > maxNumericString {
		return true
	}
	n, err := cty.ParseNumberVal(s)
	return err == nil && tooLarge(n.AsBigFloat())
}
