package h1

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// fault is why a request is refused; its connection is closed after that. A
// status of zero is no fault.
type fault struct {
	status int
	why    string
}

func bad(why string) fault { return fault{http.StatusBadRequest, why} }

// requestLine is what the first line of a request says.
type requestLine struct {
	text   string // the line itself, of which the others are parts
	method string
	target string
	minor  int // of the version 1.x
	url    url.URL
}

// parse reads the line unless it is the one that was read before.
func (l *requestLine) parse(text []byte) fault {
	if l.text != "" && string(text) == l.text {
		return fault{}
	}
	l.text = ""
	line := string(text)
	method, rest, _ := strings.Cut(line, " ")
	target, version, ok := strings.Cut(rest, " ")
	switch {
	case !ok:
		return bad("the request line is not a method, a target and a version")
	case !isToken(method):
		return bad("the method is not a word")
	case !isTarget(target):
		return bad("the target has bytes that must be encoded")
	}
	l.method, l.target = method, target
	switch version {
	case "HTTP/1.1":
		l.minor = 1
	case "HTTP/1.0":
		l.minor = 0
	default:
		return wrongVersion(version)
	}
	if f := l.parseTarget(); f.status != 0 {
		return f
	}
	l.text = line
	return fault{}
}

func wrongVersion(v string) fault {
	if len(v) == 8 && v[:5] == "HTTP/" && v[6] == '.' && among(digits, 0, v[5]) && among(digits, 0, v[7]) {
		return fault{http.StatusHTTPVersionNotSupported, "only HTTP/1.0 and HTTP/1.1 are served here"}
	}
	return bad("the version is not one of HTTP")
}

// parseTarget takes the target apart. Its forms are those of RFC 9112, section
// 3.2.
func (l *requestLine) parseTarget() fault {
	if l.target[0] == '/' {
		path, query, asked := strings.Cut(l.target, "?")
		if consistsOf(plainLow, plainHigh, path) && !strings.HasPrefix(path, "//") {
			l.url = url.URL{Path: path, RawQuery: query, ForceQuery: asked && query == ""}
			return fault{}
		}
	}
	target, connects := l.target, l.method == http.MethodConnect && l.target[0] != '/'
	if connects {
		target = "http://" + target
	}
	u, err := url.ParseRequestURI(target)
	switch {
	case err != nil:
		return bad("the target is not one of HTTP")
	case connects && (u.Path != "" || u.RawQuery != "" || u.ForceQuery):
		return bad("the target of CONNECT is not a host and a port")
	case connects:
		u.Scheme = ""
	case target == "*" && l.method != http.MethodOptions:
		return bad("'*' is a target of OPTIONS only")
	case target[0] != '/' && target != "*" && u.Scheme != "http" && u.Scheme != "https":
		return bad("the target is neither a path nor a URL of http or https")
	}
	if target[0] != '/' && target != "*" && (u.Host == "" || u.User != nil || !isHost(u.Host)) {
		return bad("the target's host is not one")
	}
	l.url = *u
	return fault{}
}

// field is one header field, its name in the canonical form.
type field struct{ name, value string }

// maxFields bounds the header fields of a request, which cost more than their
// bytes.
const maxFields = 1000

// headers is what a request's header section says.
type headers struct {
	text     string // the section itself, of which most others are parts
	fields   []field
	distinct bool // no name comes twice, as a fill has found

	host      string
	hosts     int
	length    int64 // negative: there is no Content-Length
	chunked   bool
	close     bool
	keepAlive bool
	expects   string
	trailers  []string // announced
}

// parse reads a section of whole lines, each with its CRLF, unless it is the one
// that was read before.
func (h *headers) parse(text []byte) fault {
	if string(text) == h.text && h.fields != nil {
		return fault{}
	}
	*h = headers{fields: h.fields[:0], length: -1}
	section := string(text)
	for rest := section; rest != ""; {
		end := strings.IndexByte(rest, '\n') // the scan has seen its CR
		name, value, f := splitField(rest[:end-1])
		if f.status == 0 {
			f = h.note(name, value)
		}
		if len(h.fields) > maxFields {
			f = fault{http.StatusRequestHeaderFieldsTooLarge, "it has too many headers"}
		}
		if f.status != 0 {
			h.fields = nil
			return f
		}
		rest = rest[end+1:]
	}
	if h.chunked && h.length >= 0 {
		h.fields = nil
		return bad("it has both Content-Length and Transfer-Encoding")
	}
	if h.fields == nil {
		h.fields = []field{}
	}
	h.text = section
	return fault{}
}

// fill puts the fields into an empty header, whose slices are parts of values.
func (h *headers) fill(to http.Header, values []string) {
	for i := range h.fields {
		f := &h.fields[i]
		values[i] = f.value
		if !h.distinct {
			if before, ok := to[f.name]; ok {
				to[f.name] = append(before, f.value)
				continue
			}
		}
		to[f.name] = values[i : i+1 : i+1]
	}
	h.distinct = len(to) == len(h.fields)
}

// splitField reads one field line.
func splitField(line string) (name, value string, f fault) {
	colon := strings.IndexByte(line, ':')
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return "", "", bad("a header is folded over two lines")
	case colon < 0:
		return "", "", bad("a header line has no colon")
	case !isToken(line[:colon]):
		return "", "", bad("the name of a header is not a word")
	}
	value = trim(line[colon+1:])
	if !isValue(value) {
		return "", "", bad("a header has a control byte")
	}
	return textproto.CanonicalMIMEHeaderKey(line[:colon]), value, fault{}
}

// note keeps a field, and what it says of the request's framing.
func (h *headers) note(name, value string) fault {
	switch name {
	case "Host":
		h.host = value
		if h.hosts++; h.hosts > 1 || !isHost(value) {
			return bad("it has two Host headers, or one that is not a host")
		}
		return fault{}
	case "Transfer-Encoding":
		if h.chunked || value != "chunked" {
			return bad("Transfer-Encoding is not just \"chunked\"")
		}
		h.chunked = true
		return fault{}
	case "Content-Length":
		n, ok := parseDigits(value)
		if h.length >= 0 || !ok {
			return bad("Content-Length is not one number")
		}
		h.length = n
	case "Connection":
		h.close = h.close || hasToken(value, "close")
		h.keepAlive = h.keepAlive || hasToken(value, "keep-alive")
	case "Expect":
		h.expects = value
		for _, f := range h.fields {
			if f.name == name && !strings.EqualFold(f.value, value) {
				h.expects = "two expectations"
			}
		}
	case "Trailer":
		for t := range strings.SplitSeq(value, ",") {
			t = textproto.CanonicalMIMEHeaderKey(trim(t))
			if framesMessage(t) {
				return bad("a trailer is announced that may not be one")
			}
			if t != "" {
				h.trailers = append(h.trailers, t)
			}
		}
	}
	h.fields = append(h.fields, field{name, value})
	return fault{}
}

// framesMessage says whether a header says where a message ends or where it
// goes, which a trailer must not.
func framesMessage(name string) bool {
	switch name {
	case "Transfer-Encoding", "Content-Length", "Trailer", "Host":
		return true
	}
	return false
}

// hasToken says whether a comma-separated list has the token.
func hasToken(list, token string) bool {
	if strings.EqualFold(list, token) {
		return true
	}
	if strings.IndexByte(list, ',') < 0 {
		return false
	}
	for t := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(trim(t), token) {
			return true
		}
	}
	return false
}

// check holds what the line and the headers must be together.
func check(l *requestLine, h *headers) fault {
	switch {
	case l.minor == 1 && h.hosts == 0:
		return bad("it has no Host header")
	case l.url.Host != "" && h.hosts == 1 && !strings.EqualFold(l.url.Host, h.host):
		return bad("the target's host is not the one in Host")
	case l.minor == 0 && h.chunked:
		return bad("HTTP/1.0 has no Transfer-Encoding")
	case h.expects != "" && !strings.EqualFold(h.expects, "100-continue"):
		return fault{http.StatusExpectationFailed, "only 100-continue can be expected"}
	}
	return fault{}
}
