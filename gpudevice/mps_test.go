//go:build unix

package gpudevice

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// controlScript stands for nvidia-cuda-mps-control. The file "up" in the folder
// of the pipes is the daemon, and "log" counts its starts.
const controlScript = `#!/bin/sh
if [ "$1" = -d ]; then
  [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/refuse" ] || { echo "cannot bind"; exit 1; }
  echo "$CUDA_VISIBLE_DEVICES" >> "$CUDA_MPS_LOG_DIRECTORY/starts"
  [ -e "$CUDA_MPS_PIPE_DIRECTORY/dumb" ] || touch "$CUDA_MPS_PIPE_DIRECTORY/up"
  exit 0
fi
read command
[ "$command" = get_server_list ] && [ -e "$CUDA_MPS_PIPE_DIRECTORY/up" ]
`

func newMPSRig(t *testing.T) (*MPS, gpushare.Daemon) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "control")
	if err := os.WriteFile(program, []byte(controlScript), 0o755); err != nil {
		t.Fatal(err)
	}
	return &MPS{program: program, log: hclog.NewNullLogger()}, gpushare.MPSFolder(dir, "GPU-a")
}

func starts(t *testing.T, d gpushare.Daemon) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(d.Log, "starts"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestKeepStartsFindsAndRestarts(t *testing.T) {
	t.Parallel()
	m, d := newMPSRig(t)
	keep := func() {
		t.Helper()
		if wrong := m.Keep(t.Context(), []gpushare.Daemon{d}); len(wrong) > 0 {
			t.Fatalf("got %v", wrong)
		}
	}
	keep()
	keep()
	if got := starts(t, d); got != "GPU-a" {
		t.Errorf("started for %q: want one start, for GPU-a", got)
	}
	if err := os.Remove(filepath.Join(d.Pipe, "up")); err != nil { // it died
		t.Fatal(err)
	}
	keep()
	if got := starts(t, d); got != "GPU-a\nGPU-a" {
		t.Errorf("started for %q: want a second start", got)
	}
}

func TestKeepSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{"refuse": "cannot bind", "dumb": "does not answer"} {
		m, d := newMPSRig(t)
		if err := os.MkdirAll(d.Pipe, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.Pipe, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if wrong := m.Keep(t.Context(), []gpushare.Daemon{d}); !strings.Contains(wrong["GPU-a"], want) {
			t.Errorf("%s: got %v, want %q", file, wrong, want)
		}
	}
	m, d := newMPSRig(t)
	m.program = "/does/not/exist"
	if wrong := m.Keep(t.Context(), []gpushare.Daemon{d}); !strings.Contains(wrong["GPU-a"], "/does/not/exist") {
		t.Errorf("got %v", wrong)
	}
}

func TestKeepNone(t *testing.T) {
	t.Parallel()
	if wrong := NewMPS(hclog.NewNullLogger()).Keep(t.Context(), nil); len(wrong) > 0 {
		t.Errorf("got %v", wrong)
	}
}
