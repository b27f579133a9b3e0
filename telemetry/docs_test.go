package telemetry

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/listeners"
)

// heard is a Discovery of which something has been heard.
type heard struct{ answered, changed time.Time }

func (h heard) Answered() time.Time { return h.answered }
func (h heard) Changed() time.Time  { return h.changed }

// everything is a Telemetry of which every metric has something to tell.
func everything(t *testing.T) *Telemetry {
	t.Helper()
	tel := newTelemetry(t, Config{
		AccessLog: &AccessLog{Writer: io.Discard, Format: JSON, Sample: 1}, Tracing: &Tracing{Endpoint: "http://127.0.0.1:1", Sample: new(float64)},
		Ports:     func() map[string]listeners.Stats { return map[string]listeners.Stats{"public": {}} },
		Discovery: heard{time.Unix(1, 0), time.Unix(2, 0)},
	})
	t.Cleanup(run(t, tel))
	status := busyStatus()
	status.Gatekeeper = &gatekeeper.Status{}
	tel.Watch(&source{status})
	r := record("/app")
	r.Series, r.GRPC, r.Code = tel.Serves("app", "main", "v1"), "0", "client-gone"
	tel.Ended(r)
	r.Code, r.FirstByte = "queue-full", 0
	tel.Ended(r)
	return tel
}

// documented reads the page's table of metrics: the labels of each.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| after `serve_nomad_proxy_` | labels | |\n|---|---|---|\n")
	if !found {
		t.Fatal("the page has no table of metrics")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	word := regexp.MustCompile("`([a-z_]+)`")
	metrics := map[string][]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		var labels []string
		switch {
		case strings.Contains(cells[2], "version's"):
			labels = []string{"application", "deployment", "version"}
		case strings.Contains(cells[2], "deployment's"):
			labels = []string{"application", "deployment", "generation"}
		}
		for _, label := range word.FindAllStringSubmatch(cells[2], -1) {
			labels = append(labels, label[1])
		}
		slices.Sort(labels)
		for _, name := range word.FindAllStringSubmatch(cells[1], -1) {
			metrics[namespace+"_"+name[1]] = labels
		}
	}
	return metrics
}

// The page has each metric that there is, with its labels, and no other.
func TestThePageHasEveryMetric(t *testing.T) {
	have, said := families(t, everything(t)), documented(t)
	for name, labels := range said {
		family := have[name]
		if family == nil {
			t.Errorf("the page has %s, which is nowhere in a scrape", name)
			continue
		}
		var actual []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			actual = append(actual, l.GetName())
		}
		slices.Sort(actual)
		if !slices.Equal(actual, labels) {
			t.Errorf("%s has the labels %q, the page says %q", name, actual, labels)
		}
	}
	for name := range have {
		if _, ok := said[name]; !ok && strings.HasPrefix(name, namespace) {
			t.Errorf("the page does not have %s", name)
		}
	}
}

// What the alerts and the dashboard ask Prometheus for is there.
func TestQueriesNameMetricsThatExist(t *testing.T) {
	have := families(t, everything(t))
	named := regexp.MustCompile(`((?:serve_nomad_proxy|process|go)_[a-z_]+?)(_bucket|_sum|_count)?[^a-z_]`)
	for _, page := range []string{"observability.md", "grafana-proxy.json"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		matches := named.FindAllStringSubmatch(string(text), -1)
		if len(matches) == 0 {
			t.Errorf("%s names no metric", page)
		}
		for _, m := range matches {
			if !strings.HasSuffix(m[1], "_") && have[m[1]] == nil {
				t.Errorf("%s names %s, which there is not", page, m[1])
			}
		}
	}
}
