package nomaddev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// runDirVar marks a process and all that it starts as part of one run, so that
// Cleanup finds what a crash left, and nothing else.
const runDirVar = "SERVE_NOMAD_RUN_DIR"

// Command is a program to run as part of a run folder.
type Command struct {
	Name   string // of its log and its record: "nomad"
	RunDir string
	Path   string
	Args   []string
}

// Process is a running program. It has a process group of its own, so that a
// terminal's Ctrl-C does not reach it, and is told to end when this process
// ends, where the system can do that.
type Process struct {
	Pid     int
	LogPath string

	cmd    *exec.Cmd
	record string
	done   chan struct{}
	err    error // how it ended; valid once done is closed
}

// StartProcess starts a program and records it in its run folder.
func StartProcess(c Command) (*Process, error) {
	runDir, err := absolute(c.RunDir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"logs", "pids"} {
		if err = os.MkdirAll(filepath.Join(runDir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("start %s: %w", c.Name, err)
		}
	}
	p := &Process{
		LogPath: filepath.Join(runDir, "logs", c.Name+".log"),
		cmd:     exec.Command(c.Path, c.Args...), //nolint:noctx // it outlives the caller's context and is ended in order
		record:  filepath.Join(runDir, "pids", c.Name+".json"),
		done:    make(chan struct{}),
	}
	log, err := os.OpenFile(p.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer log.Close() // the child has its own descriptor
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir = runDir
	p.cmd.Env = append(childEnv(os.Environ()), runDirVar+"="+runDir)
	p.cmd.SysProcAttr = ownGroup()

	started := make(chan error)
	go p.run(started)
	if err = <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p.Pid = p.cmd.Process.Pid
	if err = writeRecord(p.record, p.Pid); err != nil {
		p.Kill()
		return nil, fmt.Errorf("record %s: %w", c.Name, err)
	}
	return p, nil
}

// run starts and awaits the program on one thread: where a child is told of its
// parent's end, it is the end of the thread that started it.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	removeRecord(p.record, p.cmd.Process.Pid)
	close(p.done)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says how the process ended, for people: "exit status 1". It is "" while
// the process runs.
func (p *Process) Ended() string {
	select {
	case <-p.done:
	default:
		return ""
	}
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

// Terminate asks the process to end. It does not wait for it.
func (p *Process) Terminate() error {
	if err := terminate(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Kill ends the process, and no other of its group, at once, and waits until it
// is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() //nolint:errcheck // the only error is that it has ended
	<-p.done
}

// childEnv is the environment of every program that is started: this process's
// own, without what would point an agent or a server at another cluster.
func childEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		for _, prefix := range []string{"NOMAD_", "CONSUL_", "VAULT_", "SERVE_"} {
			if strings.HasPrefix(kv, prefix) {
				return true
			}
		}
		return false
	})
}

// absolute returns path as the kernel would name it, whether it exists or not.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the run folder: %w", err)
	}
	if resolved, rerr := filepath.EvalSymlinks(abs); rerr == nil {
		return resolved, nil
	}
	if parent, rerr := filepath.EvalSymlinks(filepath.Dir(abs)); rerr == nil {
		return filepath.Join(parent, filepath.Base(abs)), nil
	}
	return abs, nil
}

// waitGone waits until gone says so, and returns false when the time is over
// before that.
func waitGone(limit time.Duration, gone func() bool) bool {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !gone() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}
