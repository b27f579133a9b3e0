package routes

import (
	"iter"
	"strings"
)

// Match returns the route of the application that path belongs to: the one with
// the longest prefix that ends on a border between path segments, so that
// "/search" takes "/search" and "/search/x" but not "/searching". The prefix
// "/" takes every path. Two applications with one prefix is a fault elsewhere;
// here the first by name wins, so that every proxy decides alike.
func (t Table) Match(path string) (Route, bool) {
	byPrefix := t.ByPrefix()
	for prefix := range Prefixes(path) {
		if r, ok := byPrefix[prefix]; ok {
			return r, true
		}
	}
	return Route{}, false
}

// ByPrefix returns the routes by their normal prefix: what Match looks up,
// built once for many paths. Routes whose prefix does not start with '/' are
// left out, and those that are closed.
func (t Table) ByPrefix() map[string]Route {
	byPrefix := make(map[string]Route, len(t))
	for _, r := range t {
		if r.Closed || !strings.HasPrefix(r.RoutePrefix, "/") {
			continue
		}
		prefix := normalPrefix(r.RoutePrefix)
		if other, taken := byPrefix[prefix]; taken && other.Application <= r.Application {
			continue
		}
		byPrefix[prefix] = r
	}
	return byPrefix
}

// Prefixes yields the prefixes that path has on its segment borders, longest
// first and "/" last. It yields nothing for a path that does not start with
// '/'.
func Prefixes(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		for rest := path; rest != ""; rest = rest[:strings.LastIndexByte(rest, '/')] {
			// A path that ends in '/' lies under the prefix without it.
			if !strings.HasSuffix(rest, "/") && !yield(rest) {
				return
			}
		}
		yield("/")
	}
}

// normalPrefix drops the slash at the end, which means nothing in a prefix.
func normalPrefix(prefix string) string {
	if trimmed := strings.TrimRight(prefix, "/"); trimmed != "" {
		return trimmed
	}
	return "/"
}
