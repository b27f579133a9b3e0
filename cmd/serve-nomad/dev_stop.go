package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// How long dev stop waits for each thing that it asks for.
const (
	devStopOrderly = 2 * time.Minute
	devStopQuick   = 30 * time.Second
)

// stop ends the instance that uses the folder, or what a crashed one left.
func (c *devCommand) stop(ctx context.Context, folder devFolder) error {
	say := c.progress()
	unlock, err := nomaddev.TryLock(folder.path("lock"))
	wasRunning := errors.Is(err, nomaddev.ErrLocked)
	if wasRunning {
		info, lerr := folder.load()
		if lerr != nil || !info.alive() {
			return fmt.Errorf("another process uses %s and does not say which it is", folder)
		}
		fmt.Fprintf(say, "stopping dev (pid %d)\n", info.Pid)
		if unlock, err = endDev(ctx, folder, info); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	defer unlock()
	ended, err := folder.clean(ctx, false)
	sayEnded(say, ended)
	if err != nil {
		return err
	}
	os.Remove(folder.path("dev.json")) //nolint:errcheck // it is read only while the lock is held
	switch {
	case c.json:
		c.printJSON(map[string]any{"name": c.options.Name, "was_running": wasRunning, "ended": append([]string{}, ended...)})
	case wasRunning || len(ended) > 0:
		c.printf("Stopped.\n")
	default:
		c.printf("No dev runs.\n")
	}
	return nil
}

// endDev asks a run to stop, then to stop at once, then kills it; it returns
// with the lock of the folder.
func endDev(ctx context.Context, folder devFolder, info devInfo) (unlock func(), err error) {
	p, err := os.FindProcess(info.Pid)
	if err != nil {
		return nil, fmt.Errorf("find dev (pid %d): %w", info.Pid, err)
	}
	defer p.Release() //nolint:errcheck // nothing to do about it
	for _, step := range []struct {
		signal os.Signal
		wait   time.Duration
	}{
		{syscall.SIGTERM, devStopOrderly},
		{syscall.SIGTERM, devStopQuick},
		{os.Kill, devStopQuick},
	} {
		if !info.alive() {
			break
		}
		if err = p.Signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return nil, fmt.Errorf("stop dev (pid %d): %w", info.Pid, err)
		}
		limit, cancel := context.WithTimeout(ctx, step.wait)
		unlock, err = nomaddev.WaitLock(limit, folder.path("lock"), nil)
		cancel()
		if err == nil || ctx.Err() != nil {
			return unlock, err
		}
	}
	limit, cancel := context.WithTimeout(ctx, devStopQuick)
	defer cancel()
	unlock, err = nomaddev.WaitLock(limit, folder.path("lock"), nil)
	if err != nil {
		return nil, fmt.Errorf("dev (pid %d) does not stop: %w", info.Pid, err)
	}
	return unlock, nil
}

// devStatus is what dev status -json prints.
type devStatus struct {
	devInfo
	Running  bool              `json:"running"`
	Statuses map[string]string `json:"statuses,omitempty"` // application -> status
}

// status says whether an instance runs, and where.
func (c *devCommand) status(ctx context.Context, folder devFolder) error {
	unlock, err := nomaddev.TryLock(folder.path("lock"))
	if err == nil {
		unlock()
		if c.json {
			c.printJSON(devStatus{devInfo: devInfo{Name: c.options.Name}})
		} else {
			c.printf("No dev runs.\n")
		}
		return exitWith(exitError)
	}
	if !errors.Is(err, nomaddev.ErrLocked) {
		return err
	}
	info, err := folder.load()
	if err != nil {
		return errors.New(folder.inUse())
	}
	status := devStatus{devInfo: info, Running: true}
	var problem error
	if info.API != "" && info.Phase != phaseStarting {
		status.Statuses, problem = applicationStatuses(ctx, info.API)
	}
	if c.json {
		c.printJSON(status)
		return nil
	}
	c.printf("%s", runningText(info))
	if len(status.Statuses) > 0 {
		rows := [][]string{}
		for _, name := range slices.Sorted(maps.Keys(status.Statuses)) {
			rows = append(rows, []string{name, status.Statuses[name]})
		}
		c.printf("\n%s", table([]string{"Application", "Status"}, rows))
	}
	if problem != nil {
		c.errorf("The server does not answer: %s", problem)
	}
	return nil
}

func applicationStatuses(ctx context.Context, address string) (map[string]string, error) {
	client, err := api.NewClient(api.ClientConfig{Address: address, RetryFor: time.Second})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, _, err := client.Applications(ctx, api.Query{Stale: true})
	if err != nil {
		return nil, err
	}
	statuses := map[string]string{}
	for _, a := range list {
		statuses[a.Name] = string(a.Status)
	}
	return statuses, nil
}

// sayEnded tells which processes were ended, a few of them: each node of a worker
// group is several.
func sayEnded(say io.Writer, ended []string) {
	const most = 5
	for _, p := range ended[:min(len(ended), most)] {
		fmt.Fprintf(say, "ended what an earlier run left: %s\n", printable(p))
	}
	if more := len(ended) - most; more > 0 {
		fmt.Fprintf(say, "ended %d more of that\n", more)
	}
}
