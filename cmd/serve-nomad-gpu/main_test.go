package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/gpuplugin"
)

func TestRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		args   string
		code   int
		stdout []string
		stderr []string
	}{
		{"by hand", "", exitUsage, nil, []string{"Nomad starts it, not you", "plugin_dir"}},
		{"help", "-help", exitOK, []string{`plugin "serve-nomad-gpu"`, "ignored_gpu_ids", "drain the node"}, nil},
		{"version", "-version", exitOK, []string{"serve-nomad-gpu "}, nil},
		{"list", "-list -mode shared -slices 2 -make-believe T4", exitOK, []string{"nvidia/gpu-share/T4/gpu", ": 2 of them", "::01  healthy", "memory = 81920 MiB"}, nil},
		{"wrong slices", "-list -slices 49", exitUsage, nil, []string{"slices is 49: want a number from 1 to 48"}},
		{"wrong flag", "-lost", exitUsage, nil, []string{"-lost"}},
		{"an argument", "list", exitUsage, nil, []string{`"list" is none`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr); code != test.code {
				t.Errorf("got exit code %d, want %d", code, test.code)
			}
			for _, part := range test.stdout {
				if !strings.Contains(stdout.String(), part) {
					t.Errorf("%q is not in\n%s", part, stdout.String())
				}
			}
			for _, part := range test.stderr {
				if !strings.Contains(stderr.String(), part) {
					t.Errorf("%q is not in\n%s", part, stderr.String())
				}
			}
		})
	}
}

func TestListJSON(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"-list", "-json", "-make-believe", "NVIDIA T4"}, &stdout, &stderr); code != exitOK {
		t.Fatal(code, stderr.String())
	}
	var listing gpuplugin.Listing
	if err := json.Unmarshal(stdout.Bytes(), &listing); err != nil || len(listing.GPUs) == 0 || len(listing.Groups) == 0 {
		t.Errorf("got %+v, %v", listing, err)
	}
}
