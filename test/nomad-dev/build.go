package nomaddev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// progressEvery is how often a build says how far it is.
const progressEvery = 5 * time.Second

// build makes the pinned program and puts it into the cache. It returns false
// when another process did so while this one waited for it. A build that ends
// half-way leaves nothing in the program's place.
func build(ctx context.Context, k kind, opts Options, why error) (built bool, err error) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		return false, fmt.Errorf("%s is needed: %w, and no Go toolchain is on PATH to build it with: "+
			"install %s %d.%d or newer (https://developer.hashicorp.com/%s/install), or Go 1.26 (https://go.dev/dl/), "+
			"or name the program in %s", k.name, why, k.name, k.major, k.minor, k.name, k.env)
	}
	target := k.cachedPath(opts.CacheDir)
	if err = os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return false, fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := WaitLock(ctx, filepath.Join(opts.CacheDir, "agents", "build.lock"), func() {
		fmt.Fprintf(opts.Progress, "%s: another process is building it; waiting for that\n", k.name)
	})
	if err != nil {
		return false, fmt.Errorf("build %s: %w", k.name, err)
	}
	defer unlock()
	if executable(target) {
		return false, nil
	}
	fmt.Fprintf(opts.Progress, "%s: %v; building version %s into %s\n%s: this is done once and takes about %s\n",
		k.name, why, k.pinned, filepath.Dir(target), k.name, k.minutes)
	return true, buildInto(ctx, k, goTool, target, opts.Progress)
}

// buildInto runs the Go toolchain in a folder that holds the pinned module
// files, and renames the result to target.
func buildInto(ctx context.Context, k kind, goTool, target string, progress io.Writer) error {
	work, err := os.MkdirTemp(filepath.Dir(target), "build-*")
	if err != nil {
		return fmt.Errorf("build %s: %w", k.name, err)
	}
	defer os.RemoveAll(work) //nolint:errcheck // what is left is removed by the next build
	removeOldBuilds(filepath.Dir(target), work)
	for _, name := range []string{"go.mod", "go.sum", "tools.go"} {
		text, rerr := moduleFiles.ReadFile("agents/" + k.name + "/" + name + ".txt")
		if rerr != nil {
			return fmt.Errorf("build %s: %w", k.name, rerr)
		}
		if err = os.WriteFile(filepath.Join(work, name), text, 0o644); err != nil {
			return fmt.Errorf("build %s: %w", k.name, err)
		}
	}
	out := filepath.Join(work, "out"+exeSuffix())
	start := time.Now()
	if err = goBuild(ctx, k, goTool, out, progress); err != nil {
		return err
	}
	if err = os.Rename(out, target); err != nil {
		return fmt.Errorf("build %s: %w", k.name, err)
	}
	fmt.Fprintf(progress, "%s: built in %s\n", k.name, time.Since(start).Round(time.Second))
	return nil
}

// removeOldBuilds removes what builds that were killed left behind. The build
// lock is held, so nobody uses it.
func removeOldBuilds(dir, keep string) {
	old, err := filepath.Glob(filepath.Join(dir, "build-*"))
	if err != nil {
		return
	}
	for _, path := range old {
		if path != keep {
			os.RemoveAll(path) //nolint:errcheck // it only takes room
		}
	}
}

func goBuild(ctx context.Context, k kind, goTool, out string, progress io.Writer) error {
	args := []string{"build", "-v", "-trimpath"}
	if k.tags != "" {
		args = append(args, "-tags", k.tags)
	}
	// The child dies with the thread that made it, so that thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, goTool, append(args, "-o", out, k.module)...)
	cmd.Dir = filepath.Dir(out)
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off", "GO111MODULE=on", "GOOS=", "GOARCH=", "PWD="+cmd.Dir)
	cmd.SysProcAttr = ownGroup()
	// The go command removes its scratch folder on an interrupt; its compilers
	// are in its group and end with it.
	cmd.Cancel = func() error { return interruptGroup(cmd.Process) }
	cmd.WaitDelay = 3 * time.Second
	said := &buildLog{}
	cmd.Stdout, cmd.Stderr = said, said

	stop := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() { said.report(k.name, progress, stop) })
	err := cmd.Run()
	close(stop)
	reporting.Wait()
	if ctx.Err() != nil {
		killGroup(cmd.Process)
		return fmt.Errorf("build %s: %w", k.name, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", k.name, err, said.tail())
	}
	return nil
}

// buildLog counts what `go build -v` says, and keeps its last lines.
type buildLog struct {
	mu         sync.Mutex
	partial    string
	downloaded int
	compiled   int
	last       []string
}

// Write takes some of the go command's output.
func (l *buildLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.partial + string(p)
	for {
		line, rest, found := strings.Cut(text, "\n")
		if !found {
			break
		}
		l.line(line)
		text = rest
	}
	l.partial = text
	return len(p), nil
}

func (l *buildLog) line(line string) {
	switch {
	case strings.HasPrefix(line, "go: downloading "):
		l.downloaded++
	case !strings.ContainsAny(line, " :\t"): // a package path and nothing else
		l.compiled++
	default:
		if l.last = append(l.last, line); len(l.last) > 20 {
			l.last = l.last[1:]
		}
	}
}

// tail returns what the go command said beside its progress.
func (l *buildLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.last
	if l.partial != "" {
		lines = append(slices.Clip(lines), l.partial)
	}
	return "  " + strings.Join(lines, "\n  ")
}

func (l *buildLog) report(name string, w io.Writer, stop <-chan struct{}) {
	start := time.Now()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		downloaded, compiled := l.downloaded, l.compiled
		l.mu.Unlock()
		elapsed := time.Since(start).Round(time.Second)
		if compiled == 0 && downloaded == 0 {
			fmt.Fprintf(w, "%s: %s, reading its modules\n", name, elapsed)
			continue
		}
		if compiled == 0 {
			fmt.Fprintf(w, "%s: %s, downloading its modules, %d so far\n", name, elapsed, downloaded)
			continue
		}
		fmt.Fprintf(w, "%s: %s, compiling, %d packages so far\n", name, elapsed, compiled)
	}
}

// WaitLock takes the lock at path, and calls held once if another process has
// it. The lock goes with the process, however that ends.
func WaitLock(ctx context.Context, path string, held func()) (unlock func(), err error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		unlock, err = TryLock(path)
		if !errors.Is(err, ErrLocked) {
			return unlock, err
		}
		if held != nil {
			held()
			held = nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// LastLines returns at most n of the last lines of a file, and "" when it
// cannot be read.
func LastLines(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, serr := f.Stat(); serr == nil && st.Size() > 64<<10 {
		if _, err = f.Seek(-64<<10, io.SeekEnd); err != nil {
			return ""
		}
	}
	var lines []string
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 128<<10)
	for scan.Scan() {
		if lines = append(lines, scan.Text()); len(lines) > n {
			lines = lines[1:]
		}
	}
	return strings.Join(lines, "\n")
}
