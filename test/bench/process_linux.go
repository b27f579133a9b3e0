package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that this one started, with all of its children.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file of its output
	done chan struct{}
}

// startProcess starts argv, whose output goes to a file in dir, and waits until
// it listens on every address.
func startProcess(ctx context.Context, name, dir string, argv, addresses []string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	output, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	p.cmd = exec.Command(argv[0], argv[1:]...) //nolint:noctx // it is ended in order, by stop
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // that it ends is all that counts
		close(p.done)
	}()
	for _, address := range addresses {
		if err := p.await(ctx, address); err != nil {
			p.stop()
			return nil, err
		}
	}
	return p, nil
}

func (p *process) await(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var d net.Dialer
	for {
		nc, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-tick.C:
		case <-p.done:
			said, _ := os.ReadFile(p.log) // what there is of it
			return fmt.Errorf("%s ended at once: %s", p.name, bytes.TrimSpace(said))
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w", p.name, address, context.Cause(ctx))
		}
	}
}

// stop ends the process and its children, by force where SIGTERM does not.
func (p *process) stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // an error means that it has ended
	timer := time.NewTimer(3 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // as above; children may be left
	<-p.done
}

// clockTicks is how many there are in a second in /proc, on every Linux.
const clockTicks = 100

// stat is what /proc says of a process.
type stat struct {
	parent int
	cpu    time.Duration // user and system, of all threads, ended ones too
}

// parseStat reads /proc/<pid>/stat. The name of the program, in parentheses,
// may hold anything.
func parseStat(b []byte) (stat, error) {
	_, rest, found := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 13 {
		return stat{}, fmt.Errorf("not what /proc/<pid>/stat looks like: %q", b)
	}
	parent, err := strconv.Atoi(fields[1])
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err, err1, err2); err != nil {
		return stat{}, err
	}
	return stat{parent: parent, cpu: time.Duration(user+system) * time.Second / clockTicks}, nil
}

// tree returns the process and what descends from it, each with its stat.
func tree(root int) (map[int]stat, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := map[int]stat{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended meanwhile
		}
		s, err := parseStat(b)
		if err != nil {
			return nil, err
		}
		all[pid] = s
	}
	found := map[int]stat{}
	for pid, s := range all {
		for at := pid; at > 1; at = all[at].parent {
			if at == root {
				found[pid] = s
				break
			}
		}
	}
	return found, nil
}

// cpu is the CPU time that the processes have used so far.
func cpu(processes []*process) (time.Duration, error) {
	var sum time.Duration
	for _, p := range processes {
		found, err := tree(p.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		if len(found) == 0 {
			return 0, fmt.Errorf("%s has ended; see %s", p.name, p.log)
		}
		for _, s := range found {
			sum += s.cpu
		}
	}
	return sum, nil
}

// memory is what the processes hold of it, in bytes; what they share is shared
// out between them.
func memory(p *process) (int64, error) {
	found, err := tree(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for pid := range found {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
				n, err := strconv.ParseInt(fields[1], 10, 64)
				if err != nil {
					return 0, err
				}
				sum += n << 10
			}
		}
	}
	return sum, nil
}
