package nomaddev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Daemon is a program of a run that can be stopped and started again with the
// same ports and data.
type Daemon struct {
	name    string
	command Command
	listens []string                        // host:port, each free before the start
	ready   func(ctx context.Context) error // nil once it can be used
	within  time.Duration                   // how long it may take to get there

	mu   sync.Mutex
	proc *Process // nil before the first start
}

// Name returns the daemon's name within its run: "nomad", "server-1".
func (d *Daemon) Name() string { return d.name }

func (d *Daemon) process() *Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.proc
}

// Pid returns the pid of the process that runs, or that ran last; 0 before the
// first start.
func (d *Daemon) Pid() int {
	if p := d.process(); p != nil {
		return p.Pid
	}
	return 0
}

// LogPath returns the file that the process writes to.
func (d *Daemon) LogPath() string {
	if p := d.process(); p != nil {
		return p.LogPath
	}
	return ""
}

// Done is closed when the process that runs now has ended. A later start has
// another channel.
func (d *Daemon) Done() <-chan struct{} {
	if p := d.process(); p != nil {
		return p.Done()
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// Running says whether the process runs.
func (d *Daemon) Running() bool {
	select {
	case <-d.Done():
		return false
	default:
		return true
	}
}

// Ended says how the process ended, for people, with the last lines of its log.
func (d *Daemon) Ended() string {
	p := d.process()
	if p == nil {
		return d.name + " was not started"
	}
	return fmt.Sprintf("%s ended (%s)%s", d.name, p.Ended(), quoteLog(p.LogPath))
}

func quoteLog(path string) string {
	lines := LastLines(path, 12)
	if lines == "" {
		return "; its log is empty: " + path
	}
	return "; the last lines of " + path + ":\n    " + strings.ReplaceAll(lines, "\n", "\n    ")
}

// Start starts the program and waits until it can be used. When that does not
// come about, nothing of it is left running.
func (d *Daemon) Start(ctx context.Context) error {
	if err := d.Launch(ctx); err != nil {
		return err
	}
	if err := d.WaitReady(ctx); err != nil {
		d.Kill()
		return err
	}
	return nil
}

// Launch starts the program and does not wait until it can be used. Its ports
// must be free: whoever has one would be taken for the program.
func (d *Daemon) Launch(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc != nil && d.proc.Ended() == "" {
		return fmt.Errorf("start %s: it runs already (pid %d)", d.name, d.proc.Pid)
	}
	for _, address := range d.listens {
		if err := checkAddress(ctx, address); err != nil {
			return fmt.Errorf("start %s: %w", d.name, err)
		}
	}
	p, err := StartProcess(d.command)
	if err != nil {
		return err
	}
	d.proc = p
	return nil
}

// WaitReady waits until the program can be used.
func (d *Daemon) WaitReady(ctx context.Context) error { return d.waitReady(ctx, d.within) }

func (d *Daemon) waitReady(ctx context.Context, within time.Duration) error {
	p := d.process()
	if p == nil {
		return fmt.Errorf("%s was not started", d.name)
	}
	limit, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	err := errors.New("it was not asked yet")
	for {
		if rerr := d.ready(limit); rerr == nil {
			return nil
		} else if limit.Err() == nil {
			err = rerr
		}
		select {
		case <-p.Done():
			return errors.New(d.Ended())
		case <-limit.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("start %s: %w", d.name, ctx.Err())
			}
			return fmt.Errorf("%s is not ready after %s: %w%s", d.name, within, err, quoteLog(p.LogPath))
		case <-tick.C:
		}
	}
}

// Stop asks the program to end and waits for that. When ctx ends first, the
// program is killed, and the error says so.
func (d *Daemon) Stop(ctx context.Context) error {
	p := d.process()
	if p == nil || p.Ended() != "" {
		return nil
	}
	if ctx.Err() == nil {
		if err := p.Terminate(); err != nil {
			p.Kill()
			return fmt.Errorf("stop %s: %w", d.name, err)
		}
		select {
		case <-p.Done():
			return nil
		case <-ctx.Done():
		}
	}
	p.Kill()
	return fmt.Errorf("stop %s: it did not end by itself and was killed: %w", d.name, context.Cause(ctx))
}

// Kill ends the program as kill -9 does. What it started goes on.
func (d *Daemon) Kill() {
	if p := d.process(); p != nil {
		p.Kill()
	}
}

// Restart stops the program, if it runs, and starts it again.
func (d *Daemon) Restart(ctx context.Context) error {
	stop, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := d.Stop(stop); err != nil && ctx.Err() != nil {
		return err
	}
	return d.Start(ctx)
}

// fetch returns the body that a URL answers with 200.
func fetch(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// A connection of its own, so that none is kept to an agent that restarts.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.200s", url, resp.Status, body)
	}
	return body, nil
}
