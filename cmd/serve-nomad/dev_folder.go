package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// devFolder is where one instance of dev keeps its files.
type devFolder string

// openDevFolder makes the folder of the named instance: below XDG_STATE_HOME, or
// the user's cache folder.
func openDevFolder(b *base, name string) (devFolder, error) {
	root := b.getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(root) {
		var err error
		if root, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("find a folder for the run: %w: set HOME or XDG_STATE_HOME", err)
		}
	}
	dir := filepath.Join(root, "serve-nomad", "dev", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the run folder: %w: set XDG_STATE_HOME to a folder that you may write", err)
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	return devFolder(dir), nil
}

func (f devFolder) path(names ...string) string {
	return filepath.Join(append([]string{string(f)}, names...)...)
}

// lock makes this process the one that uses the folder.
func (f devFolder) lock() (unlock func(), err error) {
	unlock, err = nomaddev.TryLock(f.path("lock"))
	if errors.Is(err, nomaddev.ErrLocked) {
		return nil, errors.New(f.inUse())
	}
	if err != nil {
		return nil, err
	}
	info := devInfo{Phase: phaseStarting}
	if err = f.save(&info); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// inUse says that an instance runs, and how to stop it.
func (f devFolder) inUse() string {
	name := filepath.Base(string(f))
	stop := program + " dev stop"
	if name != "default" {
		stop += " -name " + name
	}
	info, err := f.load()
	if err != nil {
		return fmt.Sprintf("dev runs already; stop it: %s", stop)
	}
	text := fmt.Sprintf("dev runs already (pid %d, %s)", info.Pid, info.Phase)
	if info.API != "" {
		text += fmt.Sprintf(": applications at %s, API at %s", info.HTTP, info.API)
	}
	return text + "; stop it: " + stop
}

// The phases of an instance.
const (
	phaseStarting = "starting"
	phaseRunning  = "running"
	phaseFailed   = "deploy failed" // all runs, but an application did not get healthy
	phaseStopping = "stopping"
)

// devInfo is what an instance says of itself: in its folder, to the command that
// detached it, and with -json.
type devInfo struct {
	Name         string           `json:"name"`
	Pid          int              `json:"pid"`
	Identity     string           `json:"identity"` // of the process; see nomaddev.Identity
	Phase        string           `json:"phase"`
	StartedAt    time.Time        `json:"started_at"`
	HTTP         string           `json:"http,omitempty"` // base URLs
	API          string           `json:"api,omitempty"`
	Nomad        string           `json:"nomad,omitempty"`
	Consul       string           `json:"consul,omitempty"`
	Logs         string           `json:"logs,omitempty"`
	Applications []devApplication `json:"applications,omitempty"`
	WorkerGroups []string         `json:"worker_groups,omitempty"`
	Try          string           `json:"try,omitempty"` // a command line that shows that it works
	Error        string           `json:"error,omitempty"`
}

type devApplication struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

func (f devFolder) save(info *devInfo) error {
	info.Name = filepath.Base(string(f))
	info.Pid, info.Identity = os.Getpid(), nomaddev.Identity(os.Getpid())
	if info.StartedAt.IsZero() {
		info.StartedAt = time.Now().Truncate(time.Second)
	}
	info.Logs = f.path("logs")
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	if err = nomaddev.WriteFile(f.path("dev.json"), append(text, '\n')); err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	return nil
}

func (f devFolder) load() (devInfo, error) {
	var info devInfo
	text, err := os.ReadFile(f.path("dev.json"))
	if err == nil {
		err = json.Unmarshal(text, &info)
	}
	return info, err
}

// alive says whether the process that wrote the info still runs.
func (i devInfo) alive() bool {
	return i.Pid > 1 && i.Identity != "" && nomaddev.Identity(i.Pid) == i.Identity
}

// clean ends what a crashed run left and removes what it kept. The logs of the
// run before are kept as logs.old when rotate is set.
func (f devFolder) clean(ctx context.Context, rotate bool) (ended []string, err error) {
	cleaned, err := nomaddev.Cleanup(ctx, string(f))
	if err != nil {
		return cleaned.Processes, fmt.Errorf("end what an earlier run left: %w", err)
	}
	for _, name := range []string{"nomad", "consul", "server", "proxy", "nodes", "bin", "pids", "start.json"} {
		if err = nomaddev.RemoveData(f.path(name)); err != nil {
			return cleaned.Processes, fmt.Errorf("remove what an earlier run kept: %w", err)
		}
	}
	if !rotate {
		return cleaned.Processes, nil
	}
	if err = os.RemoveAll(f.path("logs.old")); err == nil {
		err = os.Rename(f.path("logs"), f.path("logs.old"))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return cleaned.Processes, fmt.Errorf("keep the logs of the run before: %w", err)
	}
	return cleaned.Processes, os.MkdirAll(f.path("logs"), 0o755)
}
