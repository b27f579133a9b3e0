//go:build e2e

package nomaddev_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestExamples runs every example on real agents and the command that its
// comment tells the reader to try.
func TestExamples(t *testing.T) {
	s := startShop(t, 1, 1)
	specs, err := filepath.Glob("../../examples/hcl/*.hcl")
	if err != nil || len(specs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, spec := range specs {
		name := strings.TrimSuffix(filepath.Base(spec), ".hcl")
		t.Run(name, func(t *testing.T) {
			out, code := s.cli(0, "deploy", "-timeout", "3m", spec)
			if code != 0 {
				t.Fatalf("deploy: exit code %d\n%s", code, out)
			}
			body, err := tryGet(t.Context(), s.Proxies[0].URL()+tryPath(t, spec))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range wanted(t, name) {
				if !strings.Contains(string(body), want) {
					t.Errorf("the answer has no %q: %s", want, body)
				}
			}
			if out, code := s.cli(0, "delete", name); code != 0 {
				t.Fatalf("delete: %s", out)
			}
			// Callers end before those whom they call.
			eventually(t, 30*time.Second, "no replica is left", func() error {
				if pids := taskPids(t, s.cluster); len(pids) > 0 {
					return fmt.Errorf("%v", pids)
				}
				return nil
			})
		})
	}
}

// wanted is what the answer of an example must hold. A new example needs a row.
func wanted(t *testing.T, example string) []string {
	t.Helper()
	rows := map[string][]string{
		"echo":     {"replica"},
		"elastic":  {"hello", "replica"},
		"grpc":     {"hello Nomad", "replica"},
		"hello":    {"hello", "replica"},
		"nodes":    {"hello", "replica"},
		"rollouts": {`"message": "hello"`, `"release": "1"`, "replica"},
		"search":   {`"id": "astronomy-01"`, `"score"`},
	}
	row, ok := rows[example]
	if !ok {
		t.Fatalf("example %s has no row here", example)
	}
	return row
}

// tryPath returns path and query of the "# try: curl" line of a spec.
func tryPath(t *testing.T, spec string) string {
	t.Helper()
	body, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`# try: curl .*http://127\.0\.0\.1:8000(/[^' ]*)`).FindSubmatch(body)
	if found == nil {
		t.Fatalf("%s has no line \"# try: curl 'http://127.0.0.1:8000/...'\"", spec)
	}
	return string(found[1])
}
