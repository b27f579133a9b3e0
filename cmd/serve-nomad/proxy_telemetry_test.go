package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
	for row := range strings.Lines(table) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			if name := m[1]; !have[name] && name != "grpc_requests_total" && name != "aborted_total" && name != ours {
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
