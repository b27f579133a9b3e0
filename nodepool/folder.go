package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/proctable"
)

// machineVar marks the agents of a machine, and all that they start, with the
// machine's token.
const machineVar = "SERVE_NOMAD_MACHINE"

// The states of an instance.
const (
	stateRunning  = "running"
	stateStarting = "starting"
	stateEnded    = "ended"
)

// errLocked says that another call, of this server or another one, works on the
// same machine.
var errLocked = errors.New("another call has the lock")

// process is one that a pid was, so that another one that has the pid later is
// never taken for it.
type process struct {
	Pid   int    `json:"pid"`
	Start string `json:"start"` // as identity names it
}

func (p process) alive() bool { return p.Pid > 1 && p.Start != "" && proctable.Start(p.Pid) == p.Start }

// record is what a machine's folder says of it, in machine.json.
type record struct {
	ClusterID string    `json:"cluster_id"`
	Group     string    `json:"worker_group"`
	ID        string    `json:"id"`
	Token     string    `json:"token"` // in the environment of all its processes
	Made      time.Time `json:"made"`
	Starting  time.Time `json:"starting,omitzero"` // since when a Launch is at it
	Ports     ports     `json:"ports"`
	Nomad     process   `json:"nomad"`
	Consul    process   `json:"consul"`
}

// belongs says whether a machine is one of that group.
func (r *record) belongs(b nodescale.Blueprint) error {
	if r.ClusterID != b.ClusterID || r.Group != b.Group {
		return fmt.Errorf("%s is a machine of worker group %s of cluster %s", r.ID, r.Group, r.ClusterID)
	}
	return nil
}

// folder is a machine's: its config files, data, logs and machine.json.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// load reads machine.json. The error is fs.ErrNotExist where there is no machine.
func (f folder) load() (*record, error) {
	text, err := os.ReadFile(f.path("machine.json"))
	if err != nil {
		return nil, fmt.Errorf("read the machine: %w", err)
	}
	var r record
	if err = json.Unmarshal(text, &r); err == nil && (r.Token == "" || r.ID != filepath.Base(string(f))) {
		err = errors.New("it is not this machine's")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: end what still runs of the machine and remove its folder", f.path("machine.json"), err)
	}
	return &r, nil
}

func (f folder) save(r *record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the machine: %w", err)
	}
	if err = os.MkdirAll(string(f), 0o755); err != nil {
		return fmt.Errorf("make the machine's folder: %w", err)
	}
	return writeFile(f.path("machine.json"), text)
}

// writeFile writes a file that is there in full, also after a loss of power, or
// not changed at all.
func writeFile(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already when all went well
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp.Name(), path)
}

// allocations are the ids of those that have a folder on the machine.
func (f folder) allocations() []string {
	entries, err := os.ReadDir(f.path("nomad/alloc"))
	if err != nil {
		return nil
	}
	var ids []string
	for _, e := range entries {
		if uuid.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

var (
	uuid      = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	machineID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)
)

// folder returns the folder of a machine.
func (p *processTarget) folder(id string) (folder, error) {
	if !machineID.MatchString(id) {
		return "", fmt.Errorf("%q cannot be the id of a machine: want letters, digits, - and _, at most 100", id)
	}
	return folder(filepath.Join(p.config.Dir, id)), nil
}

// lock waits for the lock of that name. All servers on this machine that share
// the folder share it.
func (p *processTarget) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err = os.MkdirAll(p.config.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the machines: %w", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, err = tryLock(filepath.Join(p.config.Dir, name+lockSuffix))
		if !errors.Is(err, errLocked) {
			return unlock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another call that works on %s: %w", name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

const lockSuffix = ".lock"

// records returns the machines below the folder, and what is wrong with those
// that cannot be read.
func (p *processTarget) records() (all []*record, broken map[string]error, err error) {
	entries, err := os.ReadDir(p.config.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("the folder of the machines is gone: %w", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look for machines: %w", err)
	}
	broken = map[string]error{}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		f := folder(filepath.Join(p.config.Dir, e.Name()))
		r, rerr := f.load()
		switch {
		case rerr == nil:
			all = append(all, r)
		case errors.Is(rerr, fs.ErrNotExist) && gone(f):
		default:
			broken[e.Name()] = rerr
		}
	}
	return all, broken, nil
}

// gone says whether a machine's folder was removed, or is just being made or
// removed: it holds nothing.
func gone(f folder) bool {
	entries, err := os.ReadDir(string(f))
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}
