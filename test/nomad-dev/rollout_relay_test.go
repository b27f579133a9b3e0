//go:build e2e

package nomaddev_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
)

// relay stands between serve-nomad's server and an agent, and tells of each call
// that has changed something there, before the server hears of it.
type relay struct {
	*httptest.Server
	changed func(call string)
}

func startRelay(t *testing.T, agent string, changed func(call string)) *relay {
	t.Helper()
	to, err := url.Parse(agent)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{changed: changed}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(to) },
		FlushInterval: -1, // event streams
		ModifyResponse: func(resp *http.Response) error {
			if asksForChange(resp.Request) {
				r.changed(resp.Request.Method + " " + resp.Request.URL.Path)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	r.Server = httptest.NewServer(forward)
	t.Cleanup(func() {
		r.CloseClientConnections()
		r.Close()
	})
	return r
}

// asksForChange says whether a call asks an agent to change something.
func asksForChange(req *http.Request) bool {
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		return false
	}
	for _, asks := range []string{"/plan", "/parse", "/search"} {
		if strings.HasSuffix(req.URL.Path, asks) {
			return false
		}
	}
	return true
}

// counter counts the calls of a server to all agents, and at one of them kills
// the server before it hears of the answer.
type counter struct {
	mu     sync.Mutex
	calls  []string
	at     int // kill at this one; 0: never
	kill   func()
	killed chan struct{}
}

func (c *counter) count(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
	if len(c.calls) == c.at {
		c.kill()
		close(c.killed)
	}
}

// arm begins to count anew, and kills at the call of that number.
func (c *counter) arm(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.at, c.killed = nil, at, make(chan struct{})
}

// seen returns the calls since arm.
func (c *counter) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.calls...)
}

// relayed has the only server of a cluster reach its agents through relays, and
// returns what counts its calls.
func relayed(t *testing.T, c cluster) *counter {
	t.Helper()
	server := c.Servers[0]
	n := &counter{kill: server.Kill, killed: make(chan struct{})}
	nomad := startRelay(t, c.Nomad.URL(), n.count)
	consul := startRelay(t, c.Consul.URL(), n.count)

	server.Kill()
	path := c.Dir + "/server/serve-nomad.hcl"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for from, to := range map[string]string{c.Nomad.URL(): nomad.URL, c.Consul.URL(): consul.URL} {
		if strings.Count(config, fmt.Sprintf("%q", from)) != 1 {
			t.Fatalf("%s does not name %s once:\n%s", path, from, config)
		}
		config = strings.ReplaceAll(config, fmt.Sprintf("%q", from), fmt.Sprintf("%q", to))
	}
	if err = os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err = server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}
