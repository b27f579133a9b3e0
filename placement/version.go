package placement

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Versions are read and compared as Nomad does, which in places differs from
// Semantic Versioning: "1.2" is "1.2.0", more than three segments are fine,
// and "version" has rules of its own for what has a pre-release.

const (
	identifiers    = `(?:\.[0-9A-Za-z\-~]+)*`
	numericRelease = `-([0-9]+[0-9A-Za-z\-~]*` + identifiers + `)`
	namedRelease   = `([A-Za-z\-~]+[0-9A-Za-z\-~]*` + identifiers + `)`
	versionText    = `v?([0-9]+(?:\.[0-9]+)*)(?:` + numericRelease + `|-?` + namedRelease + `)?(?:\+[0-9A-Za-z\-~]+` + identifiers + `)?`
	semverText     = `v?([0-9]+(?:\.[0-9]+)*)(?:` + numericRelease + `|-` + namedRelease + `)?(?:\+[0-9A-Za-z\-~]+` + identifiers + `)?`
)

// version is a version number: at least three segments, and what comes before
// the release.
type version struct {
	segments []int64
	given    int // segments that the text had
	pre      string
}

// bound is one of the comma-separated parts of a version constraint.
type bound struct {
	operator string
	version  version
}

// versions reads versions and constraints on them, each text once.
type versions struct {
	version, semver, constraint, semverConstraint *regexp.Regexp
	bounds                                        map[Constraint][]bound
}

func newVersions() *versions {
	return &versions{
		version:          regexp.MustCompile(`^` + versionText + `$`),
		semver:           regexp.MustCompile(`^` + semverText + `$`),
		constraint:       regexp.MustCompile(`^\s*(|=|!=|>|<|>=|<=|~>)\s*(` + versionText + `)\s*$`),
		semverConstraint: regexp.MustCompile(`^\s*(|=|!=|>|<|>=|<=)\s*(` + semverText + `)\s*$`),
		bounds:           map[Constraint][]bound{},
	}
}

func parseVersion(form *regexp.Regexp, text string) (version, bool) {
	parts := form.FindStringSubmatch(text)
	if parts == nil {
		return version{}, false
	}
	var v version
	for s := range strings.SplitSeq(parts[1], ".") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return version{}, false
		}
		v.segments = append(v.segments, n)
	}
	v.given = len(v.segments)
	for len(v.segments) < 3 {
		v.segments = append(v.segments, 0)
	}
	v.pre = parts[2] + parts[3] // one of them is empty
	return v, true
}

// met reports whether the version of text meets a constraint such as
// ">= 1.2, < 2" under Nomad's operand "version" or "semver". What cannot be
// read meets nothing.
func (vs *versions) met(operand, constraint, text string) bool {
	v, ok := parseVersion(vs.version, text)
	if !ok {
		return false
	}
	key := Constraint{Operand: operand, Right: constraint}
	bounds, known := vs.bounds[key]
	if !known {
		bounds = vs.parse(operand, constraint)
		vs.bounds[key] = bounds
	}
	return len(bounds) > 0 && !slices.ContainsFunc(bounds, func(b bound) bool {
		return !b.holds(v, operand == "semver")
	})
}

// parse returns nothing for what cannot be read.
func (vs *versions) parse(operand, constraint string) []bound {
	form, number := vs.constraint, vs.version
	if operand == "semver" {
		form, number = vs.semverConstraint, vs.semver
	}
	var bounds []bound
	for part := range strings.SplitSeq(constraint, ",") {
		found := form.FindStringSubmatch(part)
		if found == nil {
			return nil
		}
		v, ok := parseVersion(number, found[2])
		if !ok {
			return nil
		}
		bounds = append(bounds, bound{operator: found[1], version: v})
	}
	return bounds
}

func (b bound) holds(v version, semver bool) bool {
	order := v.compare(b.version)
	switch b.operator {
	case "", "=":
		return order == 0
	case "!=":
		return order != 0
	}
	// Before 1.0 there is 1.0-beta, and who asks for "< 1.0" does not mean it.
	if !semver && v.pre != "" && (b.version.pre == "" || !slices.Equal(v.segments, b.version.segments)) {
		return false
	}
	switch b.operator {
	case ">":
		return order > 0
	case "<":
		return order < 0
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	default:
		return b.about(v, order)
	}
}

// about is "~>": the last segment that was given may grow.
func (b bound) about(v version, order int) bool {
	want := b.version
	if want.pre != "" && v.pre == "" || order < 0 || len(want.segments) > len(v.segments) {
		return false
	}
	last := len(want.segments) - 1
	return slices.Equal(v.segments[:want.given-1], want.segments[:want.given-1]) && v.segments[last] >= want.segments[last]
}

func (v version) compare(o version) int {
	for i := range max(len(v.segments), len(o.segments)) {
		if a, b := segment(v.segments, i), segment(o.segments, i); a != b {
			return sign(a > b)
		}
	}
	if len(v.segments) != len(o.segments) {
		return 0 // Nomad looks at no pre-release then
	}
	switch {
	case v.pre == o.pre:
		return 0
	case v.pre == "":
		return 1
	case o.pre == "":
		return -1
	}
	return comparePre(strings.Split(v.pre, "."), strings.Split(o.pre, "."))
}

func segment(all []int64, i int) int64 {
	if i < len(all) {
		return all[i]
	}
	return 0
}

func sign(more bool) int {
	if more {
		return 1
	}
	return -1
}

func comparePre(a, b []string) int {
	for i := range max(len(a), len(b)) {
		x, y := "", ""
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return comparePart(x, y)
		}
	}
	return 0
}

// comparePart compares two parts that differ; "" stands for one that is not
// there.
func comparePart(x, y string) int {
	m, errX := strconv.ParseInt(x, 10, 64)
	n, errY := strconv.ParseInt(y, 10, 64)
	switch {
	case x == "":
		return sign(errY != nil)
	case y == "":
		return sign(errX == nil)
	case errX == nil && errY == nil:
		return sign(m > n)
	case errX == nil || errY == nil:
		return sign(errX != nil)
	default:
		return sign(x > y)
	}
}
