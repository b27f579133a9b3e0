package proxy

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		target   string
		segments int // taken off
		decoded  string
		rest     string
		err      error
	}{
		{"a plain path is left alone", "/search/a/b", 0, "/search/a/b", "/search/a/b", nil},
		{"a prefix is taken off", "/search/a/b", 1, "/search/a/b", "/a/b", nil},
		{"the prefix alone becomes the root", "/search", 1, "/search", "/", nil},
		{"the prefix with a slash becomes the root", "/search/", 1, "/search/", "/", nil},
		{"a slash at the end stays", "/search/a/", 1, "/search/a/", "/a/", nil},
		{"an encoded prefix is routed on as what it means", "/%73earch/a", 1, "/search/a", "/a", nil},
		{"the rest keeps its encoding", "/search/a%20b%41/%C3%A4", 1, "/search/a bA/ä", "/a%20b%41/%C3%A4", nil},
		{"slashes at the start become one", "//search/a", 1, "/search/a", "/a", nil},
		{"slashes after the prefix become one", "/search///a", 1, "/search///a", "/a", nil},
		{"slashes further on stay", "/search/a//b", 1, "/search/a//b", "/a//b", nil},
		{"dots in a name are a name", "/search/.well-known/...", 1, "/search/.well-known/...", "/.well-known/...", nil},
		{"an encoded percent sign is one", "/search/%252e%252e", 1, "/search/%2e%2e", "/%252e%252e", nil},
		{"a dot-dot segment is refused", "/search/../admin", 0, "", "", errPathDots},
		{"a dot-dot segment at the end is refused", "/search/..", 0, "", "", errPathDots},
		{"an encoded dot-dot segment is refused", "/search/%2e%2e/admin", 0, "", "", errPathDots},
		{"a half-encoded dot-dot segment is refused", "/search/.%2E/admin", 0, "", "", errPathDots},
		{"a dot segment is refused", "/search/./admin", 0, "", "", errPathDots},
		{"a dot-dot segment with a parameter is refused", "/search/..;x/admin", 0, "", "", errPathDots},
		{"an encoded slash is refused", "/search/a%2fb", 0, "", "", errPathSlash},
		{"an encoded slash in capitals is refused", "/search/a%2Fb", 0, "", "", errPathSlash},
		{"an encoded backslash is refused", "/search/a%5cb", 0, "", "", errPathSlash},
		{"a backslash is refused", `/search/a\b`, 0, "", "", errPathSlash},
		{"NUL is refused", "/search/a%00b", 0, "", "", errPathNUL},
		{"a space in the query is refused", "/search?a b", 0, "", "", errQueryBytes},
		{"a fragment is refused", "/search?a#b", 0, "", "", errQueryBytes},
		{"bytes beyond ASCII in the query are refused", "/search?\xc3\xa4", 0, "", "", errQueryBytes},
		{"an encoded query is left alone", "/search?a=%20%00", 0, "/search", "/search", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u, err := url.ParseRequestURI(tt.target)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parsePath(u)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if p.decoded != tt.decoded || p.without(tt.segments) != tt.rest {
				t.Errorf("decoded %q, rest %q, want %q, %q", p.decoded, p.without(tt.segments), tt.decoded, tt.rest)
			}
		})
	}
}

// FuzzParsePath holds that what is forwarded means what was routed on.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/a/b", "/%61/../b", "//a%2fb", "/a/%2e%2e;/b?c d", "/a//%C3%A4\\", "/a%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		p, err := parsePath(u)
		if err != nil {
			return
		}
		again, err := url.ParseRequestURI(p.escaped)
		if err != nil || again.Path != p.decoded {
			t.Fatalf("%q: routed on %q, forwarded %q, which reads as %q (%v)", target, p.decoded, p.escaped, again.Path, err)
		}
		for segments := range 4 {
			rest := p.without(segments)
			if !strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "//") || strings.ContainsAny(rest, " \r\n\x00") {
				t.Fatalf("%q without %d segments is %q", target, segments, rest)
			}
			if read, err := url.ParseRequestURI(rest); err != nil || !strings.HasSuffix(p.decoded, strings.TrimPrefix(read.Path, "/")) {
				t.Fatalf("%q without %d segments is %q, not an end of %q", target, segments, rest, p.decoded)
			}
		}
	})
}
