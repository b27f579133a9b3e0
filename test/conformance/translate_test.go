package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/routes"
)

// TestHeadersBetweenVersions asks a replica of HTTP/2 as a client of HTTP/1.1: what
// is about one connection stays on it, and what the proxy says of itself is its own.
func TestHeadersBetweenVersions(t *testing.T) {
	t.Parallel()
	seen := make(chan []string, 1)
	r := start(t, speaks(viewOf(app(1, replicaH2C(t, func(w http.ResponseWriter, req *http.Request) {
		lines := []string{req.Proto + " " + req.Method + " " + req.RequestURI, "Host: " + req.Host}
		for key, values := range req.Header {
			for _, v := range values {
				lines = append(lines, key+": "+v)
			}
		}
		slices.Sort(lines)
		seen <- lines
		h := w.Header()
		h["Content-Type"] = nil
		h.Set("X-Serve-Error", "queue-full")
		h.Set("X-Answer", "1")
		_, _ = io.WriteString(w, "<html>hi</html>")
	}))), "app", routes.ProtocolH2C))
	nc := dial(t, r.addr)
	write(t, nc, wire(`GET /app/x%20y?q HTTP/1.1
Host: a.b:80
Connection: close, X-Secret, Content-Length
X-Secret: 1
Keep-Alive: timeout=9
Proxy-Connection: keep-alive
Proxy-Authorization: x
TE: trailers, gzip
Trailer: X-Sum
X-Forwarded-For: 6.6.6.6
X_Forwarded_For: 6.6.6.6
X-Forwarded-Prefix: /evil
X-Real-IP: 6.6.6.6
Forwarded: for=6.6.6.6
X-Serve-Anything: 1
Expect: 100-continue
X-Request-Id: mine
X-Both: 1
X-Both: 2

`))
	br := bufio.NewReader(nc)
	res := readHead(t, br)
	if res.StatusCode == http.StatusContinue {
		res = readHead(t, br)
	}
	body, err := io.ReadAll(res.Body)
	if string(body) != "<html>hi</html>" || err != nil {
		t.Errorf("the client got %q %v", body, err)
	}
	if h := res.Header; h.Get("X-Answer") != "1" || h.Get("X-Request-Id") != "mine" || h["X-Serve-Error"] != nil || h["Content-Type"] != nil {
		t.Errorf("the client got the header %q", h)
	}
	client, _, _ := strings.Cut(nc.LocalAddr().String(), ":")
	want := []string{
		"HTTP/2.0 GET /x%20y?q", "Host: a.b:80", "Te: trailers", "X-Both: 1", "X-Both: 2", "X-Forwarded-For: " + client,
		"X-Forwarded-Host: a.b:80", "X-Forwarded-Prefix: /app", "X-Forwarded-Proto: http", "X-Request-Id: mine",
	}
	if got := <-seen; !slices.Equal(got, want) {
		t.Errorf("the replica got\n%s\nwant\n%s", fmt.Sprintf("%q", got), fmt.Sprintf("%q", want))
	}
	r.waitIdle(t)
}

// TestNoTypeIsGuessed holds that an answer without a type gets to the client
// without one, whatever both speak.
func TestNoTypeIsGuessed(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>hi</html>")
	}
	for replicas, view := range map[string]routes.View{
		"HTTP/1.1": viewOf(app(1, replica(t, answer))),
		"h2c":      speaks(viewOf(app(1, replicaH2C(t, answer))), "app", routes.ProtocolH2C),
	} {
		r := start(t, view)
		for name, protocols := range clientProtocols() {
			res, err := clientOf(t, protocols).Get(r.url + "/app")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if kind, ok := res.Header["Content-Type"]; ok {
				t.Errorf("%s to %s: the client got the type %q", name, replicas, kind)
			}
		}
	}
}
