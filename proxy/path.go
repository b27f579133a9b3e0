package proxy

import (
	"errors"
	"net/url"
	"strings"
)

var (
	errPathForm   = errors.New("the path must start with '/'")
	errPathDots   = errors.New(`the path has a "." or ".." segment`)
	errPathSlash  = errors.New("the path has an encoded slash or a backslash")
	errPathNUL    = errors.New("the path has a NUL byte")
	errQueryBytes = errors.New("the query has bytes that must be encoded")
)

// path is a request's path in the one form that is both routed on and
// forwarded, so that a replica never sees a path that another route would have
// taken.
type path struct {
	decoded string
	escaped string // as many slashes as decoded, in the same places
}

// parsePath refuses what servers read in different ways: dot segments, encoded
// slashes, backslashes and NUL, in any encoding. Slashes at the start become
// one.
func parsePath(u *url.URL) (path, error) {
	escaped := u.EscapedPath()
	switch {
	case !strings.HasPrefix(u.Path, "/") || !strings.HasPrefix(escaped, "/"):
		return path{}, errPathForm
	case strings.IndexByte(u.Path, 0) >= 0:
		return path{}, errPathNUL
	case strings.IndexByte(u.Path, '\\') >= 0,
		strings.Count(u.Path, "/") != strings.Count(escaped, "/"):
		return path{}, errPathSlash
	}
	if strings.Contains(u.Path, "/.") {
		for segment := range strings.SplitSeq(u.Path, "/") {
			// "..;x" is ".." to servers that know path parameters.
			name, _, _ := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				return path{}, errPathDots
			}
		}
	}
	for i := range len(u.RawQuery) {
		if b := u.RawQuery[i]; b <= ' ' || b >= 0x7f || b == '#' {
			return path{}, errQueryBytes
		}
	}
	return path{oneSlash(u.Path), oneSlash(escaped)}, nil
}

// without returns what is left of the path, escaped, when its first segments
// are taken away: what a replica sees whose prefix has that many.
func (p path) without(segments int) string {
	rest := p.escaped
	for range segments {
		i := strings.IndexByte(rest[1:], '/')
		if i < 0 {
			return "/"
		}
		rest = rest[1+i:]
	}
	return oneSlash(rest)
}

// oneSlash makes the slashes at the start of s one: a path that starts with two
// is read as a host by some.
func oneSlash(s string) string {
	if !strings.HasPrefix(s, "//") {
		return s
	}
	return "/" + strings.TrimLeft(s, "/")
}
