package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"
)

// base is what every subcommand has: where it writes, what it may read of its
// surroundings, and when to stop. Each subcommand is a cli.Command made by a
// newXCommand(b *base) in a file of its own.
type base struct {
	ctx    context.Context // ended by the first SIGINT or SIGTERM; a second one kills the process
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string

	environ  func() []string
	terminal bool // stdout is one: lines may be drawn over
	color    bool // stderr takes colours
}

// Exit codes of every subcommand.
const (
	exitOK      = 0
	exitError   = 1 // it did not work; why is on stderr
	exitUsage   = 2 // the command line is wrong; nothing was done. plan: there are changes
	exitStopped = 130
)

// newBase returns the base of this process. release gives signals their usual
// effect back.
func newBase() (b *base, release func()) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return &base{
		ctx: ctx, stdin: os.Stdin, stdout: &checkedWriter{w: os.Stdout}, stderr: os.Stderr, getenv: os.Getenv, environ: os.Environ,
		terminal: isTerminal(os.Stdout), color: isTerminal(os.Stderr) && os.Getenv("NO_COLOR") == "",
	}, stop
}

func isTerminal(f *os.File) bool {
	return isatty.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb"
}

// finish turns output that could not be written into a failure: a script must
// not take half an answer for a whole one.
func (b *base) finish(code int) int {
	out, checked := b.stdout.(*checkedWriter)
	if !checked || out.err == nil || code != exitOK {
		return code
	}
	if !errors.Is(out.err, syscall.EPIPE) { // a reader that has had enough is no fault
		b.errorf("write to standard output: %s", out.err)
	}
	return exitError
}

func (b *base) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.stdout, format, args...) // finish reports it
}

func (b *base) errorf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.stderr, format+"\n", args...) // there is nowhere to report it to
}

// checkedWriter remembers the first error and writes no more after it.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(data []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(data)
	c.err = err
	return n, err
}
