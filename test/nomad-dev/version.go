package nomaddev

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Version is the version of an agent's program.
type Version struct {
	Major, Minor, Patch int
	Pre                 string // "beta.1", "dev"; a pre-release comes before its release
}

// ParseVersion reads what `nomad -version` or `consul -version` prints: the
// first line's "v1.11.1", "v1.11.1-beta.1" or "v1.11.1+ent".
func ParseVersion(output string) (Version, error) {
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	m := regexp.MustCompile(`\bv?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?`).FindStringSubmatch(line)
	if m == nil {
		return Version{}, fmt.Errorf("no version in %q", line)
	}
	var v Version
	for i, part := range []*int{&v.Major, &v.Minor, &v.Patch} {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			return Version{}, fmt.Errorf("version in %q: %w", line, err)
		}
		*part = n
	}
	v.Pre = m[4]
	return v, nil
}

// AtLeast says whether v is major.minor or newer. A pre-release of that very
// version counts: it has what the release will have.
func (v Version) AtLeast(major, minor int) bool {
	if v.Major != major {
		return v.Major > major
	}
	return v.Minor >= minor
}

// String returns "1.11.1" or "1.11.1-beta.1".
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Pre != "" {
		s += "-" + v.Pre
	}
	return s
}
