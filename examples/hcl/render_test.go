package examples_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestRender parses every example and compares the Nomad jobs that it becomes
// with the golden file beside it.
func TestRender(t *testing.T) {
	specs, err := filepath.Glob("*.hcl")
	if err != nil || len(specs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, name := range specs {
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, diags := appspec.Parse(appspec.Source{
				Files: []appspec.SourceFile{{Name: name, Body: body}}, FS: os.DirFS("."),
			})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if formatted, _ := appspec.Format(name, body); !bytes.Equal(formatted, body) {
				t.Errorf("%s is not formatted: run serve-nomad fmt on it", name)
			}
			got := render(t, file)
			golden := filepath.Join("testdata", strings.TrimSuffix(name, ".hcl")+".golden.json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v: go test ./examples/hcl -update makes it", err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("the jobs changed (-want +got); look at it, then go test ./examples/hcl -update:\n%s", diff)
			}
		})
	}
}

// render returns the jobs of every deployment as JSON, with the text of
// programs cut short: it has a file of its own to be read in.
func render(t *testing.T, file *appspec.File) []byte {
	t.Helper()
	jobs := []any{}
	for _, app := range file.Applications {
		for _, d := range app.Deployments {
			job := jobspec.Render(jobspec.Input{
				ClusterID: "00000000-0000-0000-0000-000000000000", Application: app, Deployment: d,
				Version: "00000000", Count: d.NumReplicas, CoreMHz: 2000,
				HandleAddress: "127.0.0.1:8001", UIAddress: "http://127.0.0.1:8265",
			})
			for _, tmpl := range job.TaskGroups[0].Tasks[0].Templates {
				if text := *tmpl.EmbeddedTmpl; len(text) > 60 {
					*tmpl.EmbeddedTmpl = text[:60] + "..."
				}
			}
			jobs = append(jobs, job)
		}
	}
	out, err := json.MarshalIndent(jobs, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}
