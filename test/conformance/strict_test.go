package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// seenRequest is a request as a replica got it.
type seenRequest struct {
	method, target string
	header         [][2]string // in order, names in lower case
	body           string
}

func (r seenRequest) String() string {
	if r.body == "" {
		return r.method + " " + r.target
	}
	return r.method + " " + r.target + " " + r.body
}

func (r seenRequest) values(name string) (values []string) {
	for _, h := range r.header {
		if h[0] == name {
			values = append(values, h[1])
		}
	}
	return values
}

// errIncomplete means that more bytes could make it a request.
var errIncomplete = errors.New("incomplete")

// parseStrict reads the requests that b is, in the narrowest grammar that a
// proxy can be asked to write: whoever reads b differently has a fault of its
// own. rest is the beginning of a request that has not come to its end.
func parseStrict(b []byte) (requests []seenRequest, rest []byte, err error) {
	for len(b) > 0 {
		r, n, err := parseOne(b)
		if errors.Is(err, errIncomplete) {
			return requests, b, nil
		}
		if err != nil {
			return requests, b, err
		}
		requests, b = append(requests, r), b[n:]
	}
	return requests, nil, nil
}

func parseOne(b []byte) (r seenRequest, n int, err error) {
	head, body, found := bytes.Cut(b, []byte("\r\n\r\n"))
	if !found {
		return r, 0, errIncomplete
	}
	lines := strings.Split(string(head), "\r\n")
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || parts[2] != "HTTP/1.1" || !token(parts[0]) || !visibleTarget(parts[1]) || !strings.HasPrefix(parts[1], "/") {
		return r, 0, fmt.Errorf("request line %q", lines[0])
	}
	r.method, r.target = parts[0], parts[1]
	if err := goodPath(r.target); err != nil {
		return r, 0, err
	}
	if r.header, err = parseFields(lines[1:]); err != nil {
		return r, 0, err
	}
	if len(r.values("host")) != 1 {
		return r, 0, fmt.Errorf("%d Host headers", len(r.values("host")))
	}
	length, coding := r.values("content-length"), r.values("transfer-encoding")
	used := 0
	switch {
	case len(length)+len(coding) > 1:
		return r, 0, fmt.Errorf("framings %q and %q", length, coding)
	case len(coding) == 1 && coding[0] != "chunked":
		return r, 0, fmt.Errorf("transfer coding %q", coding[0])
	case len(coding) == 1:
		r.body, used, err = parseChunks(body)
	case len(length) == 1:
		r.body, used, err = parseLength(body, length[0])
	}
	return r, len(head) + 4 + used, err
}

func parseFields(lines []string) (fields [][2]string, err error) {
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		if !found || !token(name) {
			return nil, fmt.Errorf("header line %q", line)
		}
		for i := range len(value) {
			if b := value[i]; (b < ' ' && b != '\t') || b == 0x7f {
				return nil, fmt.Errorf("byte %#x in header line %q", b, line)
			}
		}
		fields = append(fields, [2]string{strings.ToLower(name), strings.Trim(value, " \t")})
	}
	return fields, nil
}

func parseLength(body []byte, length string) (string, int, error) {
	n, err := strconv.Atoi(length)
	if err != nil || strconv.Itoa(n) != length || n < 0 {
		return "", 0, fmt.Errorf("Content-Length %q", length)
	}
	if len(body) < n {
		return "", 0, errIncomplete
	}
	return string(body[:n]), n, nil
}

func parseChunks(b []byte) (body string, used int, err error) {
	all := len(b)
	for {
		line, rest, found := bytes.Cut(b, []byte("\r\n"))
		if !found {
			return "", 0, errIncomplete
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil || strconv.FormatUint(size, 16) != strings.ToLower(string(line)) {
			return "", 0, fmt.Errorf("chunk size line %q", line)
		}
		b = rest
		if size == 0 {
			break
		}
		if len(b) < int(size)+2 {
			return "", 0, errIncomplete
		}
		if string(b[size:size+2]) != "\r\n" {
			return "", 0, fmt.Errorf("a chunk of %d bytes is followed by %q", size, b[size:size+2])
		}
		body, b = body+string(b[:size]), b[size+2:]
	}
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return body, all - len(b) + 2, nil
	}
	trailer, rest, found := bytes.Cut(b, []byte("\r\n\r\n"))
	if !found {
		return "", 0, errIncomplete
	}
	fields, err := parseFields(strings.Split(string(trailer), "\r\n"))
	for _, f := range fields {
		switch f[0] {
		case "content-length", "transfer-encoding", "host", "connection":
			return "", 0, fmt.Errorf("trailer %q", f[0])
		}
	}
	return body, all - len(rest), err
}

// goodPath refuses a target that servers do not read alike.
func goodPath(target string) error {
	path, _, _ := strings.Cut(target, "?")
	lower := strings.ToLower(path)
	for _, bad := range []string{"//", "\\", "%2f", "%5c", "%00", "#"} {
		if strings.Contains(lower, bad) && (bad != "//" || strings.HasPrefix(lower, "//")) {
			return fmt.Errorf("%q in the path %q", bad, path)
		}
	}
	lower = strings.NewReplacer("%2e", ".", "%3b", ";").Replace(lower)
	for segment := range strings.SplitSeq(lower, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return fmt.Errorf("a dot segment in %q", path)
		}
	}
	return nil
}

func token(s string) bool {
	for i := range len(s) {
		b := s[i]
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		if !letter && (b < '0' || b > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return s != ""
}

// visibleTarget takes bytes above 127 in a query, which have no encoding but are
// read alike.
func visibleTarget(s string) bool {
	path, _, _ := strings.Cut(s, "?")
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b == 0x7f || (b > 0x7f && i < len(path)) {
			return false
		}
	}
	return s != ""
}

func TestParseStrict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, bytes, want string }{
		{"nothing", "", "[] \"\""},
		{"a request and the beginning of another", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "[GET /] \"GET\""},
		{"a length", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", "[POST /x ab] \"\""},
		{"chunks", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n", "[POST /x ab] \"\""},
		{"both framings", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "error"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "error"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "error"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "error"},
		{"a folded line", "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", "error"},
		{"a bare LF", "GET / HTTP/1.1\r\nHost: a\r\nA: b\nB: c\r\n\r\n", "error"},
		{"a dot segment", "GET /a/%2E./b HTTP/1.1\r\nHost: a\r\n\r\n", "error"},
		{"a chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n", "error"},
		{"a trailer that frames", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", "error"},
	} {
		requests, rest, err := parseStrict([]byte(tt.bytes))
		got := fmt.Sprintf("%v %q", requests, rest)
		if err != nil {
			got = "error"
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
