package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds on a client's HTTP/2 connection.
const (
	frontStreams = 250              // at once
	frontBuffer  = 64 << 10         // bytes of one request that are read ahead of its replica
	frontFrame   = 16 << 10         // bytes of one frame; what every client begins with
	frontPing    = 30 * time.Second // for which it may be silent, and then the answer be late
)

// frontHTTP2 is what clients are offered. A connection may have as much
// unread as all of its streams together, or requests that wait for a slot would
// keep those from being read that have one.
func frontHTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          frontStreams,
		MaxReceiveBufferPerStream:     frontBuffer,
		MaxReceiveBufferPerConnection: frontStreams * frontBuffer,
		// A frame that is allowed must fit into the buffer of its stream.
		MaxReadFrameSize: frontFrame,
		// A stream may be silent for long, so a client that has vanished is
		// found out by a question.
		SendPingTimeout: frontPing,
		PingTimeout:     frontPing,
	}
}

// checkHTTP2 refuses what net/http's server takes of HTTP/2 although it is
// malformed by RFC 9113, sections 8.1.1 and 8.3.1, and would be a riddle to
// whoever reads it as HTTP/1.1. The server loop of HTTP/1.1 does so by itself.
func checkHTTP2(r *http.Request) *errorBody {
	lengths := r.Header["Content-Length"]
	switch {
	case !isAuthority(r.Host):
		return &errorBody{Status: http.StatusBadRequest, Code: codeBadHost, Message: "the authority has a byte that no host has"}
	case !strings.HasPrefix(r.RequestURI, "/"):
		return &errorBody{Status: http.StatusBadRequest, Code: codeBadPath, Message: errPathForm.Error()}
	case len(lengths) > 1 || (len(lengths) == 1 && lengths[0] != strconv.FormatInt(r.ContentLength, 10)):
		return &errorBody{Status: http.StatusBadRequest, Code: codeBadBody, Message: "Content-Length is not the body's length"}
	}
	return nil
}

// isAuthority says whether s has only bytes of a host and port, by RFC 3986,
// sections 3.2.2 and 3.2.3.
func isAuthority(s string) bool {
	for i := range len(s) {
		b := s[i]
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		if !letter && (b < '0' || b > '9') && strings.IndexByte("-._~%!$&'()*+,;=:[]", b) < 0 {
			return false
		}
	}
	return true
}
