//go:build unix

package telemetry

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// Opening must not wait for somebody who reads: a reload would hang.
func TestAPipeThatNobodyReads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{AccessLog: &AccessLog{File: file}}, hclog.NewNullLogger()); err == nil {
		t.Error("it is opened")
	}
}
