package h2

import (
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// nameCache keeps names of headers in another form. A server that invents new
// ones for ever fills it once.
type nameCache map[string]string

const maxNames = 128

func (n *nameCache) get(name string, form func(string) string) string {
	if other, ok := (*n)[name]; ok {
		return other
	}
	other := form(name)
	if len(*n) < maxNames {
		if *n == nil {
			*n = nameCache{}
		}
		(*n)[strings.Clone(name)] = other
	}
	return other
}

// canonical is a name as http.Header has it.
func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }

// wireName is a name as HTTP/2 has it; "": it cannot be sent.
func wireName(name string) string {
	if !httpguts.ValidHeaderFieldName(name) {
		return ""
	}
	name = strings.ToLower(name)
	if aboutConnection(name) || name == "host" || name == "content-length" || name == "trailer" {
		return ""
	}
	return name
}

// aboutConnection says whether a header makes a message malformed (RFC 9113,
// section 8.2.2).
func aboutConnection(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// passing says whether a header has another value in each request: in the table
// of compression it would only push out the others.
func passing(name string) bool {
	switch name {
	case "x-request-id", "traceparent", "tracestate", "grpc-timeout", "content-length":
		return true
	}
	return false
}
