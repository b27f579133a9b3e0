package placement

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// judge holds constraints against nodes and devices. It remembers what it has
// compiled.
type judge struct {
	versions *versions                 // nil: not needed yet
	regexps  map[string]*regexp.Regexp // nil: cannot be compiled
}

func newJudge() *judge {
	return &judge{regexps: map[string]*regexp.Regexp{}}
}

// value is what an interpolation stands for on a node.
type value struct {
	text    string
	found   bool
	unknown string // what the node would have to say of itself first; "": it is known
	own     bool   // each new node has another one
}

// resolve looks up one side of a constraint.
func resolve(target string, n *Node) value {
	if !strings.HasPrefix(target, "${") {
		return value{text: target, found: true}
	}
	switch target {
	case "${node.unique.id}":
		return ofOneNode(n, n.ID)
	case "${node.unique.name}":
		return ofOneNode(n, n.Name)
	case "${node.datacenter}":
		return value{text: n.Datacenter, found: true}
	case "${node.class}":
		return value{text: n.Class, found: true}
	case "${node.pool}":
		return value{text: n.Pool, found: true}
	}
	if name, ok := strings.CutPrefix(target, "${attr."); ok {
		return attribute(n, strings.TrimSuffix(name, "}"))
	}
	if name, ok := strings.CutPrefix(target, "${meta."); ok {
		text, found := n.Meta[strings.TrimSuffix(name, "}")]
		return value{text: text, found: found}
	}
	return value{}
}

func ofOneNode(n *Node, text string) value {
	if n.Imagined {
		return value{own: true, unknown: "what a node is called is not known before it is there"}
	}
	return value{text: text, found: true}
}

func attribute(n *Node, name string) value {
	if text, found := n.Attributes[name]; found || !n.Imagined {
		return value{text: text, found: found}
	}
	if driver, ok := strings.CutPrefix(name, "driver."); ok && !strings.Contains(driver, ".") && (n.Drivers == nil || n.Drivers[driver]) {
		return value{text: "1", found: true}
	}
	if strings.HasPrefix(name, "unique.") {
		return value{own: true, unknown: "what only one node has is not known before it is there"}
	}
	return value{unknown: fmt.Sprintf("not known of a new node: declare %q in attributes of the worker group's node block", name)}
}

// implied reports whether a constraint is one that Nomad's servers add to jobs
// by themselves and that any client which can run tasks meets.
func implied(c Constraint) bool {
	switch c.Left {
	case "${attr.consul.version}":
		return c.Operand == "semver" && c.Right == ">= 1.8.0"
	case "${attr.nomad.version}":
		return c.Operand == "semver" && (c.Right == ">= 1.4.0" || c.Right == ">= 1.6.3-dev" || c.Right == ">= 1.8.0-dev")
	case "${attr.nomad.service_discovery}":
		return c.Operand == "=" && c.Right == "true"
	case "${attr.kernel.name}":
		return c.Operand == "=" && c.Right == "linux"
	case "${attr.os.signals}":
		return c.Operand == "set_contains"
	case "${attr.plugins.secrets.nomad.version}", "${attr.plugins.secrets.vault.version}":
		return c.Operand == "is_set"
	}
	return false
}

// refuses says why a node does not meet a constraint; "": it does.
func (j *judge) refuses(c Constraint, n *Node) string {
	left, right := resolve(c.Left, n), resolve(c.Right, n)
	if n.Imagined && (left.unknown != "" || right.unknown != "") {
		switch {
		case implied(c):
			return ""
		case left.own && (c.Operand == "!=" || c.Operand == "not" || c.Operand == "is_set") && right.unknown == "":
			return ""
		case left.unknown != "":
			return left.unknown
		default:
			return right.unknown
		}
	}
	if j.meets(c.Operand, left, right) {
		return ""
	}
	if !left.found {
		return "it is not set"
	}
	return "it is " + strconv.Quote(left.text)
}

// meets follows Nomad, where an absent side is unequal to everything that is
// there, and equal to nothing.
func (j *judge) meets(operand string, left, right value) bool {
	switch operand {
	case "distinct_hosts", "distinct_property": // are looked at elsewhere
		return true
	case "!=", "not":
		return left.text != right.text
	case "is_set":
		return left.found
	case "is_not_set":
		return !left.found
	}
	if !left.found || !right.found {
		return false
	}
	switch operand {
	case "=", "==", "is":
		return left.text == right.text
	case "<", "<=", ">", ">=":
		return ordered(operand, compareTexts(left.text, right.text))
	}
	return j.matches(operand, left.text, right.text)
}

// matches is for the operands that look at text, of nodes and devices alike.
func (j *judge) matches(operand, left, right string) bool {
	switch operand {
	case "version", "semver":
		if j.versions == nil {
			j.versions = newVersions()
		}
		return j.versions.met(operand, right, left)
	case "regexp":
		return j.regexpMatches(right, left)
	case "set_contains", "set_contains_all":
		has := items(left)
		return !slices.ContainsFunc(items(right), func(s string) bool { return !slices.Contains(has, s) })
	case "set_contains_any":
		has := items(left)
		return slices.ContainsFunc(items(right), func(s string) bool { return slices.Contains(has, s) })
	}
	return false
}

func items(list string) []string {
	all := strings.Split(list, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

func (j *judge) regexpMatches(pattern, text string) bool {
	re, known := j.regexps[pattern]
	if !known {
		re, _ = regexp.Compile(pattern) // nil, which matches nothing, as in Nomad
		j.regexps[pattern] = re
	}
	return re != nil && re.MatchString(text)
}

// compareTexts compares as whole numbers if both are, else as numbers if both
// are, else as text. It returns -1, 0, 1, or 2 where there is no order.
func compareTexts(left, right string) int {
	a, errA := strconv.ParseInt(left, 10, 64)
	b, errB := strconv.ParseInt(right, 10, 64)
	if errA == nil && errB == nil {
		return cmp.Compare(a, b)
	}
	x, errX := strconv.ParseFloat(left, 64)
	y, errY := strconv.ParseFloat(right, 64)
	if errX != nil || errY != nil {
		return strings.Compare(left, right)
	}
	if x != x || y != y {
		return 2
	}
	return cmp.Compare(x, y)
}

func ordered(operand string, order int) bool {
	switch operand {
	case "<":
		return order == -1
	case "<=":
		return order == -1 || order == 0
	case ">":
		return order == 1
	default:
		return order == 1 || order == 0
	}
}

// String is the constraint as people write it.
func (c Constraint) String() string {
	if c.Right == "" && (c.Operand == "is_set" || c.Operand == "is_not_set") {
		return c.Left + " " + c.Operand
	}
	return c.Left + " " + c.Operand + " " + c.Right
}
