package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// recorder is a replica that keeps every byte that reaches it and answers what
// it takes for requests.
type recorder struct {
	name    string
	address string

	mu    sync.Mutex
	conns []*bytes.Buffer
}

func newRecorder(tb testing.TB, name string) *recorder {
	tb.Helper()
	r := &recorder{name: name}
	r.address = rawReplica(tb, func(nc *net.TCPConn) {
		got := &bytes.Buffer{}
		r.mu.Lock()
		r.conns = append(r.conns, got)
		r.mu.Unlock()
		br := bufio.NewReader(io.TeeReader(nc, lockedWriter{&r.mu, got}))
		for {
			req, err := http.ReadRequest(br)
			if err == nil {
				_, err = io.Copy(io.Discard, req.Body)
			}
			if err != nil {
				_, _ = io.Copy(io.Discard, br) // to the end, for the record
				return
			}
			if _, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
				return
			}
		}
	})
	return r
}

// lockedWriter lets a test read what is still written.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// seen returns the requests that the replica got, and an error when there is
// more than one way to read them.
func (r *recorder) seen() (requests []seenRequest, raw string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		got, _, perr := parseStrict(c.Bytes())
		requests, raw = append(requests, got...), raw+c.String()
		if perr != nil {
			err = errors.Join(err, perr)
		}
	}
	return requests, raw, err
}

// bench is a proxy between two applications that record.
type bench struct {
	*rig
	recorders []*recorder
}

func startBench(tb testing.TB) *bench {
	tb.Helper()
	main, admin := newRecorder(tb, "app"), newRecorder(tb, "admin")
	view := viewOf(
		application{name: "app", prefix: "/app", ongoing: 1, queued: -1, replicas: []string{main.address}},
		application{name: "admin", prefix: "/app/admin", ongoing: 1, queued: -1, replicas: []string{admin.address}},
	)
	return &bench{rig: start(tb, view), recorders: []*recorder{main, admin}}
}

// all returns what both replicas saw.
func (b *bench) all(tb testing.TB) (summary string, requests []seenRequest, raw string) {
	tb.Helper()
	b.waitIdle(tb)
	var parts []string
	for _, r := range b.recorders {
		got, bytes, err := r.seen()
		if err != nil {
			tb.Errorf("AMBIGUOUS: %v\nthe replica got %.1000q", err, bytes)
		}
		for _, req := range got {
			parts = append(parts, r.name+": "+req.String())
		}
		requests, raw = append(requests, got...), raw+bytes
	}
	return strings.Join(parts, ", "), requests, raw
}

func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	vectors, names := allVectors(), map[string]bool{}
	if len(vectors) < 60 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		if names[v.name] {
			t.Errorf("two vectors are called %q", v.name)
		}
		names[v.name] = true
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			if fault := v.run(t); fault != "" {
				t.Errorf("%.500q: %s", v.send, fault)
			}
		})
	}
}

// run sends the vector and says what is not as it should be. What may not be,
// whatever the proxy's opinion, fails the test at once.
func (v vector) run(t *testing.T) (fault string) {
	b := startBench(t)
	got := v.exchange(t, b.addr)
	summary, requests, raw := b.all(t)
	refused := refusal(got)
	want, seen := v.want, v.seen
	if refused && strings.Contains(want, "200") && !strings.Contains(got, " ") {
		seen = "" // it may be taken or refused, and was refused
	}
	if refused && strings.Contains(got, " ") && strings.Contains(seen, ", ") {
		seen, _, _ = strings.Cut(seen, ", ")
	}
	switch {
	case !oneOf(got, want) && (!v.end || got != ""): // who ends his side has left
		return fmt.Sprintf("the client got %q, want %q; the replicas got %q", got, want, summary)
	case summary != seen:
		return fmt.Sprintf("the replicas got %q, want %q (the client got %q)", summary, seen, got)
	case v.absent != "" && strings.Contains(strings.ToLower(raw), v.absent):
		return fmt.Sprintf("%q reached a replica in %.1000q", v.absent, raw)
	case v.header != "" && !refused && !has(requests, v.header):
		return fmt.Sprintf("no header %q reached the replica in %.1000q", v.header, raw)
	}
	return ""
}

// exchange sends the vector and returns the statuses of the answers up to the
// connection's end.
func (v vector) exchange(t *testing.T, addr string) string {
	nc := dial(t, addr)
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		// The proxy may have closed before it has all: the answers tell.
		_, _ = io.WriteString(nc, wire(v.send))
		if v.end {
			_ = nc.CloseWrite()
		}
	})
	var statuses []string
	br := bufio.NewReader(nc)
	method := http.MethodGet
	if strings.HasPrefix(v.send, http.MethodHead) {
		method = http.MethodHead
	}
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			statuses = append(statuses, "open")
		}
		if err != nil {
			return strings.Join(statuses, " ")
		}
		// An answer that ends with its connection has ended when that is reset.
		if _, err := io.Copy(io.Discard, res.Body); err != nil && (res.ContentLength >= 0 || len(res.TransferEncoding) > 0) {
			return strings.Join(append(statuses, "cut"), " ")
		}
		statuses = append(statuses, fmt.Sprint(res.StatusCode))
	}
}

// refusal says whether the last of the answers is an error, or missing.
func refusal(statuses string) bool {
	last := statuses[strings.LastIndexByte(statuses, ' ')+1:]
	return last == "" || last >= "400"
}

func oneOf(got, want string) bool {
	for alternative := range strings.SplitSeq(want, "|") {
		if strings.TrimSpace(alternative) == got {
			return true
		}
	}
	return false
}

func has(requests []seenRequest, line string) bool {
	for _, r := range requests {
		for _, h := range r.header {
			if h[0]+": "+h[1] == line {
				return true
			}
		}
	}
	return false
}
