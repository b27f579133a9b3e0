package telemetry

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the page, its alerts and the dashboard ask Prometheus for is there.
func TestDocumentationNamesMetricsThatExist(t *testing.T) {
	tel := newTelemetry(t, Config{
		AccessLog: &AccessLog{Writer: io.Discard, Format: JSON, Sample: 1}, Tracing: &Tracing{Endpoint: "http://127.0.0.1:1", Sample: new(float64)},
	})
	defer run(t, tel)()
	tel.Watch(&source{busyStatus()})
	r := record("/app")
	r.Series, r.GRPC, r.Code = tel.Serves("app", "main", "v1"), "0", "client-gone"
	tel.Ended(r)
	r.Code, r.FirstByte = "queue-full", 0
	tel.Ended(r)
	have := families(t, tel)
	named := regexp.MustCompile(`(serve_nomad_proxy_[a-z_]+?|process_[a-z_]+)(_bucket|_sum|_count)?[^a-z_]`)
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
			if m[1] != "serve_nomad_proxy_" && have[m[1]] == nil {
				t.Errorf("%s names %s, which there is not", page, m[1])
			}
		}
	}
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range have {
		short, ours := strings.CutPrefix(name, namespace+"_")
		if ours && !regexp.MustCompile("[`_]"+short+"`").Match(page) && !regexp.MustCompile("`"+suffix(short)+"`").Match(page) {
			t.Errorf("the page does not name %s", name)
		}
	}
}

// suffix is how a list of metrics that begin alike names one of them.
func suffix(short string) string { return strings.TrimPrefix(short, "replica_connections") }
