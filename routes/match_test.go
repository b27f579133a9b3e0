package routes_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/routes"
)

func table(prefixes map[string]string) routes.Table {
	t := routes.Table{}
	for app, prefix := range prefixes {
		t[app] = routes.Route{Application: app, RoutePrefix: prefix}
	}
	return t
}

func TestMatch(t *testing.T) {
	t.Parallel()
	full := map[string]string{"root": "/", "search": "/search", "deep": "/search/deep", "slash": "/slash/"}
	tests := []struct {
		name     string
		prefixes map[string]string
		path     string
		want     string
	}{
		{"the prefix itself belongs to the application", full, "/search", "search"},
		{"a path below the prefix belongs to the application", full, "/search/x/y", "search"},
		{"the longest prefix wins", full, "/search/deep/er", "deep"},
		{"a prefix ends on a segment border", full, "/searching", "root"},
		{"a deeper prefix ends on a segment border too", full, "/search/deeper", "search"},
		{"a slash at the end stays below the prefix", full, "/search/", "search"},
		{"a slash at the end of a prefix means nothing", full, "/slash/a", "slash"},
		{"the root prefix takes everything else", full, "/other", "root"},
		{"the root prefix takes the root", full, "/", "root"},
		{"without a root prefix other paths have no route", map[string]string{"search": "/search"}, "/", ""},
		{"an empty path has no route", full, "", ""},
		{"a path without a leading slash has no route", full, "search", ""},
		{"an empty table has no route", nil, "/search", ""},
		{"a prefix without a leading slash is no prefix", map[string]string{"a": "a"}, "/a", ""},
		{"of two applications with one prefix the first by name wins", map[string]string{"b": "/x", "a": "/x"}, "/x/y", "a"},
		{"prefixes are compared byte for byte", map[string]string{"a": "/Search"}, "/search", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := table(tt.prefixes).Match(tt.path)
			if ok != (tt.want != "") || got.Application != tt.want {
				t.Errorf("Match(%q) = %q, %v, want %q", tt.path, got.Application, ok, tt.want)
			}
		})
	}
}

func TestPrefixes(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][]string{
		"/a/b/c": {"/a/b/c", "/a/b", "/a", "/"},
		"/a/":    {"/a", "/"},
		"/":      {"/"},
		"//a":    {"//a", "/"},
		"":       nil,
		"a/b":    nil,
	} {
		if diff := cmp.Diff(want, slices.Collect(routes.Prefixes(path))); diff != "" {
			t.Errorf("Prefixes(%q) (-want +got):\n%s", path, diff)
		}
	}
}

// TestMatchLaw holds Match against the plainest possible statement of the rule.
func TestMatchLaw(t *testing.T) {
	t.Parallel()
	segment := rapid.SampledFrom([]string{"a", "b", "ab", ""})
	rapid.Check(t, func(t *rapid.T) {
		path := func(label string) string {
			return "/" + strings.Join(rapid.SliceOfN(segment, 0, 4).Draw(t, label), "/")
		}
		tbl := routes.Table{}
		for i := range rapid.IntRange(0, 5).Draw(t, "applications") {
			name := string(rune('a' + i))
			tbl[name] = routes.Route{Application: name, RoutePrefix: path("prefix")}
		}
		p := path("path")
		got, ok := tbl.Match(p)

		best, want := -1, ""
		for _, r := range tbl {
			prefix := strings.TrimRight(r.RoutePrefix, "/")
			if p != prefix && !strings.HasPrefix(p, prefix+"/") {
				continue
			}
			if len(prefix) > best || (len(prefix) == best && r.Application < want) {
				best, want = len(prefix), r.Application
			}
		}
		if ok != (best >= 0) || got.Application != want {
			t.Fatalf("Match(%q) in %v = %q, %v, want %q", p, tbl, got.Application, ok, want)
		}
	})
}
