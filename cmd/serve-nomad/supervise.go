package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// A proxy below a supervisor has two pipes to it. On the first one it is told to
// drain; when that ends without a word the supervisor has died, and the proxy
// waits a while for the next one's proxy to take over. On the second one it says
// that it serves.
const (
	lifelineEnv  = "SERVE_NOMAD_LIFELINE" // set: the pipes are there
	lifelineFile = 3
	servingFile  = 4
)

// followLifeline returns a context that ends with ctx, or when the supervisor says
// so. orphaned is closed when that has died.
func followLifeline(ctx context.Context, getenv func(string) string) (_ context.Context, orphaned chan struct{}, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(ctx)
	orphaned = make(chan struct{})
	if getenv(lifelineEnv) == "" {
		return ctx, orphaned, stop
	}
	lifeline := os.NewFile(lifelineFile, "lifeline")
	go func() {
		if n, _ := lifeline.Read(make([]byte, 1)); n == 0 {
			close(orphaned)
			return
		}
		stop()
	}()
	return ctx, orphaned, stop
}

// tellServing says to whoever has started this process that it serves: the
// supervisor, or systemd where the unit is of Type=notify.
func tellServing(getenv func(string) string) {
	if getenv(lifelineEnv) != "" {
		serving := os.NewFile(servingFile, "serving")
		_, _ = serving.Write([]byte{'\n'}) // a supervisor that has died need not know
		_ = serving.Close()
		return
	}
	notifySystemd(getenv)
}

func notifySystemd(getenv func(string) string) {
	address := getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	conn, err := net.Dial("unixgram", strings.Replace(address, "@", "\x00", 1)) //nolint:noctx // it does not wait
	if err != nil {
		return // who asked for it is not there
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("READY=1")) // as above
}

// supervisor keeps one proxy, and while it is replaced two or more.
type supervisor struct {
	log     hclog.Logger
	command *proxyCommand
	path    string // of the program
	args    []string
	workers []*worker // by age; the last one that serves is the one that counts
	ended   chan *worker
	serving chan *worker
}

// worker is a process of the proxy.
type worker struct {
	process  *exec.Cmd
	lifeline *os.File
	serves   bool
	err      error // why it ended
}

func (c *proxyCommand) superviseProxy(ctx context.Context) error {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	cfg, err := readConfig(c.config)
	if err != nil {
		return err
	}
	if cfg.Proxy.UpgradeSocket == "" {
		return errors.New("-supervise: proxy.data_dir is not set in the configuration: without it a proxy cannot be replaced")
	}
	s := &supervisor{
		log: newLogger(c.base, cfg).Named("supervisor"), command: c, path: path, args: workerArgs(os.Args[1:]),
		ended: make(chan *worker), serving: make(chan *worker),
	}
	return s.run(ctx)
}

// workerArgs turns the supervisor's command line into that of a proxy below it.
// Each of them looks for one to take over from: the supervisor before this one
// may have died and left one.
func workerArgs(args []string) []string {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		return strings.HasPrefix(a, "-") && (name == "supervise" || name == "upgrade")
	})
	return slices.Insert(args, 1, "-upgrade")
}

func (s *supervisor) run(ctx context.Context) error {
	signals, ignore := notifySignals()
	defer ignore()
	if err := s.start(); err != nil {
		return err
	}
	told := false
	stop := ctx.Done()
	for {
		select {
		case <-stop:
			stop = nil
			for _, w := range s.workers {
				_, _ = w.lifeline.Write([]byte{'\n'}) // it drains, if it has not ended already
			}
		case w := <-s.serving:
			w.serves = true
			s.log.Info("proxy serves", "process", w.process.Process.Pid)
			if !told {
				notifySystemd(s.command.getenv)
			}
			told = true
		case w := <-s.ended:
			if s.remove(w); len(s.workers) == 0 {
				return exitOf(w)
			}
		case signal := <-signals:
			s.take(ctx, signal)
		}
	}
}

// start starts a proxy.
func (s *supervisor) start() error {
	lifeRead, lifeWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	servingRead, servingWrite, err := os.Pipe()
	if err != nil {
		return errors.Join(err, lifeRead.Close(), lifeWrite.Close())
	}
	w := &worker{process: exec.Command(s.path, s.args...), lifeline: lifeWrite} //nolint:noctx // it outlives the signal that ends ctx
	w.process.Stdout, w.process.Stderr = s.command.stdout, s.command.stderr
	if out, checked := s.command.stdout.(*checkedWriter); checked {
		w.process.Stdout = out.w
	}
	w.process.Env = append(os.Environ(), lifelineEnv+"=1")
	w.process.ExtraFiles = []*os.File{lifeRead, servingWrite}
	err = w.process.Start()
	_, _ = lifeRead.Close(), servingWrite.Close() // the proxy has its own
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", s.path, err), lifeWrite.Close(), servingRead.Close())
	}
	s.workers = append(s.workers, w)
	s.log.Info("proxy started", "process", w.process.Process.Pid)
	go func() {
		if n, _ := servingRead.Read(make([]byte, 1)); n > 0 {
			s.serving <- w
		}
		_ = servingRead.Close() // nothing more is said there
		w.err = w.process.Wait()
		s.ended <- w
	}()
	return nil
}

// remove forgets a proxy that has ended.
func (s *supervisor) remove(w *worker) {
	_ = w.lifeline.Close() // nobody reads it
	s.workers = slices.DeleteFunc(s.workers, func(other *worker) bool { return other == w })
	log := s.log.Info
	if w.err != nil {
		log = s.log.Error
	}
	log("proxy ended", "process", w.process.Process.Pid, "state", w.process.ProcessState, "left", len(s.workers))
}

// take does what a signal asks for.
func (s *supervisor) take(ctx context.Context, signal os.Signal) {
	if signal == upgradeSignal {
		last := s.workers[len(s.workers)-1]
		switch {
		case ctx.Err() != nil: // it is about to end
		case !last.serves:
			s.log.Warn("an upgrade is under way; this one is left out", "process", last.process.Process.Pid)
		default:
			if err := s.start(); err != nil {
				s.log.Error("no other proxy could be started; the one that runs goes on", "error", err)
			}
		}
		return
	}
	for _, w := range s.workers {
		if err := w.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.log.Warn("signal not passed on", "process", w.process.Process.Pid, "error", err)
		}
	}
}

// exitOf is the end of the last proxy, which is that of its supervisor.
func exitOf(w *worker) error {
	var exit *exec.ExitError
	if !errors.As(w.err, &exit) {
		return w.err
	}
	if code := exit.ExitCode(); code > 0 {
		return exitWith(code)
	}
	return fmt.Errorf("the proxy ended: %w", w.err) // by a signal
}
