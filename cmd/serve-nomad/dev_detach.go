package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// detach starts the background half of the run, shows how it goes, and returns
// when everything is healthy or when it has failed.
func (c *devCommand) detach(ctx context.Context, folder devFolder, plan devPlan, unlock func()) error {
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	if err = nomaddev.WriteFile(folder.path("start.json"), text); err != nil {
		return fmt.Errorf("write the plan of the run: %w", err)
	}
	logPath := folder.path("logs", "dev.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of the run: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	result, resultEnd, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer result.Close()

	child := exec.Command(plan.Binary, "dev", "-name", plan.Options.Name) //nolint:noctx // it outlives this command
	child.Dir = string(folder)
	child.Env = append(os.Environ(), devStartEnv+"="+folder.path("start.json"))
	child.Stdout, child.Stderr = log, log
	child.ExtraFiles = []*os.File{resultEnd}
	child.SysProcAttr = nomaddev.Detached()
	unlock() // the child takes the lock
	err = child.Start()
	resultEnd.Close() // the child has its own
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	return c.awaitDetached(ctx, child, result, logPath)
}

// awaitDetached shows the child's log until the child says how it went.
func (c *devCommand) awaitDetached(ctx context.Context, child *exec.Cmd, result io.Reader, logPath string) error {
	shown, stop := context.WithCancel(context.WithoutCancel(ctx))
	follower := make(chan struct{})
	go func() {
		defer close(follower)
		followFile(shown, logPath, c.progress())
	}()
	answered := make(chan devInfo, 1)
	go func() {
		var info devInfo
		if err := json.NewDecoder(result).Decode(&info); err != nil {
			info.Error = "it ended: the log is " + logPath
		}
		answered <- info
	}()
	var info devInfo
	interrupted := false
	for done := ctx.Done(); ; {
		select {
		case info = <-answered:
		case <-done:
			interrupted, done = true, nil
			child.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended by itself
			continue
		}
		break
	}
	if info.Error != "" || interrupted {
		child.Wait() //nolint:errcheck // it has said why it ends
	}
	stop()
	<-follower
	switch {
	case interrupted:
		return exitWith(exitStopped)
	case info.Error != "":
		return errors.New(info.Error)
	case c.json:
		c.printJSON(info)
	default:
		c.printf("%s\nStop it: %s\n", runningText(info), stopLine(info.Name))
	}
	return nil
}

func stopLine(name string) string {
	if name == "default" {
		return program + " dev stop"
	}
	return program + " dev stop -name " + name
}

// followFile copies what is in a file and what is added to it, until ctx ends.
func followFile(ctx context.Context, path string, to io.Writer) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := ctx.Err() != nil
		if _, err = io.Copy(to, f); err != nil || last {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// background is the other half of detach: it runs until it is told to stop, and
// tells on descriptor 3 how the start went. When that fails, nothing is left
// running.
func (c *devCommand) background(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the plan of the run: %w", err)
	}
	run := &devRun{command: c.command, progress: &lockedWriter{w: c.stdout}}
	if err = json.Unmarshal(text, &run.plan); err != nil {
		return fmt.Errorf("read the plan of the run: %w", err)
	}
	os.Unsetenv(devStartEnv) //nolint:errcheck // the name is a good one
	if run.folder, err = openDevFolder(c.base, run.plan.Options.Name); err != nil {
		return err
	}
	first, second, release := interrupts(c.ctx)
	defer release()
	unlock, err := run.folder.lock()
	if err != nil {
		return err
	}
	defer unlock()
	defer run.removeData()
	const resultFD = 3
	syscall.CloseOnExec(resultFD) // or the agents would hold it open
	answer := os.NewFile(resultFD, "result")
	ended, err := run.up(first)
	if err != nil {
		run.down(first, second)
		run.info.Error = err.Error()
		run.answer(answer)
		return exitWith(exitError) // the other half tells why
	}
	run.answer(answer)
	err = <-ended
	run.down(first, second)
	return err
}

func (r *devRun) answer(to *os.File) {
	if err := json.NewEncoder(to).Encode(r.info); err != nil {
		r.errorf("tell how the start went: %s", err) // nobody waits for it any more
	}
	to.Close()
}
