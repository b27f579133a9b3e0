package nomaddev

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// record says which process a pid was, so that another process that has the
// same pid later is never taken for it.
type record struct {
	Pid     int       `json:"pid"`
	Start   string    `json:"start"` // of the process, as the system tells it
	Exe     string    `json:"exe"`
	Written time.Time `json:"written"`

	name, path string
}

func writeRecord(path string, pid int) error {
	r := record{Pid: pid, Written: time.Now()}
	r.Start, r.Exe = identity(pid)
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return WriteFile(path, text)
}

func readRecord(path string) (record, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return record{}, err
	}
	r := record{path: path, name: strings.TrimSuffix(filepath.Base(path), ".json")}
	if err = json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

// removeRecord removes a record, if it is still that of pid.
func removeRecord(path string, pid int) {
	if r, err := readRecord(path); err == nil && r.Pid == pid {
		os.Remove(path) //nolint:errcheck // a record of a process that has ended does no harm
	}
}

// readRecords returns the records of a run folder, the last one written first:
// the order in which the processes are to end.
func readRecords(runDir string) ([]record, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(runDir), "pids", "*.json"))
	if err != nil {
		return nil, fmt.Errorf("read the records of %s: %w", runDir, err)
	}
	var all []record
	for _, path := range paths {
		r, rerr := readRecord(path)
		if errors.Is(rerr, os.ErrNotExist) {
			continue
		}
		if rerr != nil {
			os.Remove(path) //nolint:errcheck // half a record names no process
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int { return b.Written.Compare(a.Written) })
	return all, nil
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// alive says whether the recorded process still runs.
func (r record) alive() bool {
	if r.Pid <= 1 || r.Start == "" {
		return false
	}
	start, exe := identity(r.Pid)
	return start == r.Start && exe == r.Exe
}

// WriteFile writes a file that is either there in full or not changed at all.
func WriteFile(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already when all went well
	_, err = tmp.Write(text)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Identity names a process for good: two processes that had the same pid, one
// after the other, have different identities. It is "" when none has the pid.
func Identity(pid int) string {
	start, exe := identity(pid)
	if start == "" {
		return ""
	}
	return start + " " + exe
}
