package telemetry

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// AccessLog is what the access log can be told.
type AccessLog struct {
	File    string        // appended to; "": Writer
	Writer  io.Writer     // where there is no File
	Format  Format        // of a line
	Sample  float64       // of requests that have a line, 0 to 1; what failed or was slow always has one
	Slow    time.Duration // from when on a request is slow; 0: none is
	Query   bool          // lines have the query string, which may hold secrets
	Headers []string      // of the request that lines have, at most MaxHeaders
}

// MaxHeaders is how many headers of a request a line can have.
const MaxHeaders = maxHeaders

// Format is how a line of the access log is written.
type Format string

// The formats.
const (
	JSON     Format = "json"
	Combined Format = "combined" // as Apache and nginx write it
)

// writeInterval is for how long lines are gathered, to be written at once.
const writeInterval = 20 * time.Millisecond

// flushTimeout is how long what is left of the log may take to be written at
// the end: an output that is stuck must not keep the proxy from ending.
const flushTimeout = 2 * time.Second

type accessLog struct {
	config AccessLog
	log    hclog.Logger
	queue  *queue
	format lineFormat

	next atomic.Pointer[logFile] // takes the place of file; nil: nothing does

	// Of the goroutine that writes.
	file   *logFile // nil: config.Writer
	lines  []byte
	torn   bool // what has been written ends in the middle of a line
	broken bool // the last write failed
}

// logFile is the file of an access log.
type logFile struct {
	*os.File
	torn bool // it ends in the middle of a line, as after a crash
}

func newAccessLog(c AccessLog, count *outcomes, log hclog.Logger) (*accessLog, error) {
	headers := make([]string, 0, len(c.Headers))
	for _, key := range c.Headers {
		headers = append(headers, http.CanonicalHeaderKey(key))
	}
	if len(headers) > maxHeaders {
		return nil, fmt.Errorf("access log: %d headers are asked for, there is room for %d", len(headers), maxHeaders)
	}
	a := &accessLog{config: c, log: log, queue: newQueue(headers, writeInterval, count), format: newLineFormat(c, headers)}
	if c.File == "" {
		return a, nil
	}
	file, err := openLog(c.File)
	if err != nil {
		return nil, err
	}
	a.file, a.torn = file, file.torn
	return a, nil
}

// LogFileError says why the access log's file cannot be opened.
type LogFileError struct{ cause error }

func (e *LogFileError) Error() string { return "access log: " + e.cause.Error() }

func (e *LogFileError) Unwrap() error { return e.cause }

// openLog opens the file to append to it. A named pipe that nobody reads is an
// error, rather than something to wait for.
func openLog(path string) (*logFile, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, &LogFileError{err}
	}
	return &logFile{File: file, torn: endsTorn(file)}, nil
}

// endsTorn says whether the last line of a file has no end.
func endsTorn(file *os.File) bool {
	about, err := file.Stat()
	if err != nil || !about.Mode().IsRegular() || about.Size() == 0 {
		return false
	}
	read, err := os.Open(file.Name())
	if err != nil {
		return false
	}
	defer read.Close()
	last := []byte{'\n'}
	_, _ = read.ReadAt(last, about.Size()-1) // a file that cannot be read is taken to be whole
	return last[0] != '\n'
}

// note has a line written for the request, if it is one that has a line. false
// says that another log has taken this one's place.
func (a *accessLog) note(r *proxy.Record) bool {
	if a.config.Sample >= 1 || failed(r) ||
		(a.config.Slow > 0 && r.Duration >= a.config.Slow) || rand.Float64() < a.config.Sample {
		return a.queue.put(r)
	}
	return true
}

// failed says whether the client got no whole response, or one that says that
// the deployment or this proxy could not serve it.
func failed(r *proxy.Record) bool {
	switch r.GRPC {
	case "2", "4", "8", "13", "14", "15": // UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return r.Status >= http.StatusInternalServerError || r.Aborted()
}

// reopen has the file of the same name take the place of the open one.
func (a *accessLog) reopen() error {
	if a.config.File == "" {
		return nil
	}
	file, err := openLog(a.config.File)
	if err != nil {
		return err
	}
	if overtaken := a.next.Swap(file); overtaken != nil {
		overtaken.Close()
	}
	signal(a.queue.wake) // so that the old one is closed soon
	return nil
}

// run writes lines until ctx ends or the log retires, and then what is left, for
// a few seconds at most.
func (a *accessLog) run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.queue.run(ctx, a.write)
		a.closeFiles()
	}()
	select {
	case <-ctx.Done():
	case <-a.queue.retired:
	}
	timer := time.NewTimer(flushTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		a.log.Warn("access log: its output takes nothing; the last lines are lost")
	}
}

func (a *accessLog) closeFiles() {
	for _, file := range []*logFile{a.file, a.next.Swap(nil)} {
		if file != nil {
			file.Close()
		}
	}
}

// write writes a batch. Lines that cannot be written are lost: a log that
// cannot be kept must not grow in memory instead.
func (a *accessLog) write(b *batch) {
	if next := a.next.Swap(nil); next != nil {
		a.file.Close()
		a.file, a.torn = next, next.torn
	}
	if len(b.entries) == 0 {
		return
	}
	a.lines = a.lines[:0]
	if a.torn {
		a.lines = append(a.lines, '\n')
	}
	for i := range b.entries {
		a.lines = a.format.append(a.lines, b, &b.entries[i])
	}
	out := a.config.Writer
	if a.file != nil {
		out = a.file.File
	}
	n, err := out.Write(a.lines)
	switch {
	case err != nil:
		a.queue.count.failed.Add(uint64(len(b.entries)))
		a.torn = n > 0 && a.lines[n-1] != '\n' || n == 0 && a.torn
		if !a.broken {
			a.log.Error("access log: cannot be written; lines are lost until it can", "error", err)
		}
	case a.broken:
		a.log.Info("access log: is written again")
		fallthrough
	default:
		a.torn = false
	}
	a.broken = err != nil
	if cap(a.lines) > maxText {
		a.lines = nil
	}
}
