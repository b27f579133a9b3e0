package appspec

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse holds that Parse ends soon on anything, that its diagnostics have
// their places in the source, and that what it accepts is sound, survives JSON
// and means the same once it is formatted.
func FuzzParse(f *testing.F) {
	specs, err := filepath.Glob("testdata/*.hcl")
	if err != nil {
		f.Fatal(err)
	}
	for _, spec := range specs {
		body, err := os.ReadFile(spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	for _, seed := range []string{
		"", "\ufeff", "\r\n", "a {", "x = [for a in [1] : a]\n", "locals {\na = \"${local.b}\"\nb = local.a\n}\n",
		"variable \"a\" {\ntype = map(any)\ndefault = {}\n}\n", "locals { x = <<-E\n a\n  ${1}\n E\n}", strings.Repeat("(", 200),
		"locals {\nx = {for k, v in {a = 1} : upper(k) => v...}\ny = [1, 2][*]\nz = try(a.b, format(\"%5.2f\", 1/3))\n}\n",
	} {
		f.Add([]byte(seed))
	}
	in := Source{FS: fstest.MapFS{"args.conf": {Data: []byte("x")}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		in := in
		in.Files = []SourceFile{{Name: "a.hcl", Body: body}}
		start := time.Now()
		file, diags := Parse(in)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
		checkDiagnostics(t, diags, bytes.Count(body, []byte("\n"))+1)
		formatted, _ := Format("a.hcl", body)
		if diags.HasErrors() {
			if file != nil {
				t.Error("there is a file in spite of errors")
			}
			return
		}
		if faults := ValidateFile(file); len(faults) > 0 {
			t.Errorf("Validate finds what Parse does not: %v", faults)
		}
		for _, app := range file.Applications {
			if diff := cmp.Diff(app, throughJSON(t, app)); diff != "" {
				t.Errorf("JSON changes it: %s", diff)
			}
		}
		for _, group := range file.WorkerGroups {
			if diff := cmp.Diff(group, throughJSON(t, group)); diff != "" {
				t.Errorf("JSON changes it: %s", diff)
			}
			if changes := DiffWorkerGroup(group, group.complete()); len(changes) > 0 {
				t.Errorf("something was left out: %v", changes)
			}
			group.NodeBounds(time.Unix(1e9, 0))
		}
		in.Files[0].Body = formatted
		again, diags := Parse(in)
		if diags.HasErrors() {
			t.Fatalf("refused once formatted: %v", diags)
		}
		if diff := cmp.Diff(file, again); diff != "" {
			t.Errorf("formatting changes it: %s", diff)
		}
	})
}

func checkDiagnostics(t *testing.T, diags Diagnostics, lines int) {
	t.Helper()
	var text bytes.Buffer
	if err := diags.WriteText(&text, false, 80); err != nil {
		t.Error(err)
	}
	for _, d := range diags {
		if d.Summary == "" || d.Severity != SeverityError {
			t.Errorf("odd diagnostic: %+v", d)
		}
		if d.File == "a.hcl" && (d.Line < 1 || d.Line > lines+1 || d.Column < 1 || d.EndLine < d.Line) {
			t.Errorf("no place in %d lines: %+v", lines, d)
		}
	}
}
