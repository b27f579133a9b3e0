package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/listeners"
)

// What a process of the proxy tells Prometheus is in the page, and of what the
// page has only that is missing which nothing has happened for.
func TestAScrapeOfAProxyIsWhatThePageSays(t *testing.T) {
	p := newProxy(t, newTinyConsul(t, echoReplica(t)).URL, shortFolder(t), "")
	p.start()
	get := func(path string) string {
		t.Helper()
		res, err := http.Get("http://" + p.address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	get("/nowhere")
	get("/app/x")
	const ours = "serve_nomad_proxy_"
	var scrape string
	p.eventually("it keeps slots, and has heard of Consul", func() bool {
		scrape = get("/-/metrics")
		return strings.Contains(scrape, ours+"gatekeeper_keeping 1\n") && strings.Contains(scrape, ours+"discovery_answered_timestamp_seconds ")
	})
	p.stop()
	have := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE `+ours+`([a-z_]+) `).FindAllStringSubmatch(scrape, -1) {
		have[m[1]] = true
	}
	page, err := os.ReadFile(filepath.Join(docsFolder, "observability.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| after `"+ours+"` ")
	table, _, _ = strings.Cut(table, "\n\n")
	nothingOf := []string{ours, "grpc_requests_total", "aborted_total", "generation_weight", "shadow_copies_total"}
	for row := range strings.Lines(table) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			if name := m[1]; !have[name] && !slices.Contains(nothingOf, name) {
				t.Errorf("the page has %s, the scrape does not", name)
			}
			delete(have, m[1])
		}
	}
	for name := range have {
		t.Errorf("the page does not have %s", name)
	}
	for _, port := range []string{"public", "handle", "gatekeeper"} {
		if !strings.Contains(scrape, ours+`client_connections_accepted_total{port="`+port+`"}`) {
			t.Errorf("nothing is told of the port %s", port)
		}
	}
}

// The state of a proxy names each of its ports, and has times in seconds. When
// Consul falls silent it says so, and the log does once.
func TestTheStateOfAProxy(t *testing.T) {
	consul, admin := newTinyConsul(t, echoReplica(t)), freePort(t)
	p := newProxy(t, consul.URL, shortFolder(t), fmt.Sprintf("admin_address = %q", admin))
	p.start()
	var state struct {
		Ports     map[string]listeners.Stats `json:"ports"`
		Discovery string                     `json:"discovery_error"`
		Reporting struct {
			Age *float64 `json:"age_seconds"`
		} `json:"reporting"`
	}
	ask := func() {
		t.Helper()
		res, err := http.Get("http://" + admin + "/-/status")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		state.Ports = nil
		if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
			t.Fatal(err)
		}
	}
	p.eventually("it tells of all four ports", func() bool { ask(); return len(state.Ports) == 4 })
	for _, name := range []string{"public", "handle", "gatekeeper", "admin"} {
		if _, has := state.Ports[name]; !has {
			t.Errorf("nothing is told of the port %s", name)
		}
	}
	if state.Ports["admin"].Accepted == 0 {
		t.Error("nobody has asked at the admin port")
	}
	if age := state.Reporting.Age; age == nil || *age <= 0 || *age > 100 {
		t.Errorf("the last report is of %v s ago", age)
	}
	consul.down.Store(true)
	consul.CloseClientConnections()
	p.eventually("it says that Consul is silent", func() bool { ask(); return state.Discovery != "" })
	said := func() int { return p.output.count(`\[WARN\].*(consul is not read|may be old)`) }
	p.eventually("the log says so", func() bool { return said() > 0 })
	p.stop()
	if n := said(); n != 1 {
		t.Errorf("the log says so %d times", n)
	}
}
