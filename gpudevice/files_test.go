package gpudevice

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

func TestHappenings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	if got, err := Happenings(file); err != nil || got != nil {
		t.Errorf("no file: got %v, %v", got, err)
	}
	if got, err := Happenings(""); err != nil || got != nil {
		t.Errorf("no name: got %v, %v", got, err)
	}
	write(t, file, `{"0": {"lost": true}, "1": {"unhealthy": "XID 79"}}`)
	got, err := Happenings(file)
	want := map[string]gpushare.Happening{"0": {Lost: true}, "1": {Unhealthy: "XID 79"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	write(t, file, `{"0`)
	if _, err = Happenings(file); err == nil {
		t.Error("half a file was read")
	}
}

func TestAnnounced(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there")
	if got, err := ReadAnnounced(dir); err != nil || got.GPUs != nil {
		t.Errorf("no file: got %v, %v", got, err)
	}
	want := gpushare.Announced{Boot: "b", GPUs: map[string]gpushare.Shape{"a": {Mode: gpushare.ModeShared, Slices: 8}}}
	for range 2 { // the second replaces
		if err := WriteAnnounced(dir, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadAnnounced(dir)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files are left", len(files))
	}
	write(t, AnnouncedFile(dir), "{")
	if _, err = ReadAnnounced(dir); err == nil {
		t.Error("half a file was read")
	}
	if err = WriteAnnounced(AnnouncedFile(dir), want); err == nil {
		t.Error("it was written into a file as if that were a folder")
	}
}

func TestExisting(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nvidia0")
	write(t, file, "")
	if got := Existing([]string{file, file + "1"}); len(got) != 1 || got[0] != file {
		t.Errorf("got %v", got)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
