package nomadjobs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/nomad/api"
)

// How far back a tail of lines looks.
const (
	bytesPerLine = 1 << 10
	minTailBytes = 64 << 10
	maxTailBytes = 4 << 20
)

// Nomad keeps a followed log open when the replica has ended, so its state is
// looked at every endPoll; logDrain is then left for what is under way.
const (
	endPoll  = 2 * time.Second
	logDrain = time.Second
)

// LogRequest says which log to read, and from where.
type LogRequest struct {
	Replica   string // allocation id, whole
	Task      string // the deployment's name
	Stream    string // "stdout" or "stderr"
	Follow    bool   // go on with what is written next
	TailLines int    // begin this many lines before the end; 0: see TailBytes
	TailBytes int64  // begin this many bytes before the end; 0: at the beginning; below 0: at the end
}

// Logs opens a replica's log. Reading it ends with io.EOF at the log's end or,
// with Follow, when ctx or the replica ends. The caller closes it. Any Nomad
// agent will do: it asks the replica's node for us.
func (c *Client) Logs(ctx context.Context, r LogRequest) (io.ReadCloser, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.TailLines > 0 {
		return c.tail(ctx, r)
	}
	return c.open(ctx, r)
}

func (r LogRequest) check() error {
	if r.Stream != api.FSLogNameStdout && r.Stream != api.FSLogNameStderr {
		return fmt.Errorf("read log: stream %q is neither stdout nor stderr", r.Stream)
	}
	if r.Replica == "" || r.Task == "" {
		return errors.New("read log: the replica and its task are needed")
	}
	return nil
}

// tail opens a log so many lines before its end. The end is found first. What
// is written between that and the second look shifts the beginning, so a line
// that it would begin in the middle of is left out: some lines fewer, but none
// lost after the first.
func (c *Client) tail(ctx context.Context, r LogRequest) (io.ReadCloser, error) {
	n := r.TailLines
	data, whole, err := c.end(ctx, r)
	if err != nil {
		return nil, err
	}
	lines := lastLines(data, n+1)
	text := ""
	if last := lines[max(0, len(lines)-n):]; len(last) > 0 {
		text = strings.Join(last, "\n") + "\n"
	}
	if !r.Follow {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	// From one byte before the first line: it tells whether a line begins there.
	r.TailLines, r.TailBytes = 0, int64(len(text))+1
	if len(lines) <= n && whole {
		r.TailBytes = 0
	}
	log, err := c.open(ctx, r)
	if err != nil || r.TailBytes == 0 {
		return log, err
	}
	return &alignedReader{Closer: log, from: bufio.NewReader(log)}, nil
}

// end reads the end of a log, enough of it for r.TailLines lines, and says
// whether that is all of it.
func (c *Client) end(ctx context.Context, r LogRequest) (data []byte, whole bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	window := max(min(r.TailLines*bytesPerLine, maxTailBytes), minTailBytes)
	r.Follow, r.TailLines, r.TailBytes = false, 0, int64(window)
	log, err := c.open(ctx, r)
	if err != nil {
		return nil, false, err
	}
	defer log.Close()
	data, err = io.ReadAll(io.LimitReader(log, 2*maxTailBytes))
	if err == nil {
		err = ctx.Err() // a log cut short by the clock ends as any other
	}
	if err != nil {
		return nil, false, c.fault(fmt.Sprintf("read %s of replica %s", r.Stream, r.Replica), err)
	}
	return data, len(data) < window, nil
}

func (c *Client) open(ctx context.Context, r LogRequest) (io.ReadCloser, error) {
	origin, offset := api.OriginEnd, r.TailBytes
	switch {
	case r.TailBytes == 0:
		origin = api.OriginStart
	case r.TailBytes < 0:
		offset = 0
	}
	params := url.Values{
		"task": {r.Task}, "type": {r.Stream}, "follow": {strconv.FormatBool(r.Follow)},
		"origin": {origin}, "offset": {strconv.FormatInt(offset, 10)},
		"plain": {"true"}, // bytes as they are, not in JSON frames
	}
	ctx, cancel := context.WithCancel(ctx)
	q := (&api.QueryOptions{}).WithContext(ctx)
	body, err := c.nomad.Raw().Response("/v1/client/fs/logs/"+url.PathEscape(r.Replica)+"?"+params.Encode(), q)
	if err != nil {
		cancel()
		return nil, c.fault(fmt.Sprintf("read %s of replica %s", r.Stream, r.Replica), err)
	}
	if r.Follow {
		go c.endWith(ctx, r.Replica, cancel)
	}
	return &logReader{ended: ctx.Err, cancel: cancel, body: body}, nil
}

// endWith calls cancel once the replica has ended and its last words had time
// to come.
func (c *Client) endWith(ctx context.Context, replica string, cancel context.CancelFunc) {
	for sleep(ctx, endPoll) {
		if c.ended(ctx, replica) {
			sleep(ctx, logDrain)
			cancel()
			return
		}
	}
}

func (c *Client) ended(ctx context.Context, replica string) bool {
	q, cancel := query(ctx)
	defer cancel()
	alloc, _, err := c.nomad.Allocations().Info(replica, q)
	if err != nil {
		return errors.Is(c.fault("read replica "+replica, err), ErrNotFound)
	}
	return alloc.ClientTerminalStatus()
}

// logReader is a log whose end by cancellation is an ordinary end.
type logReader struct {
	ended  func() error // of the request's context
	cancel context.CancelFunc

	mu   sync.Mutex // the body, which may be unzipped, is one goroutine's at a time
	body io.ReadCloser
}

func (l *logReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.body.Read(p)
	if err != nil && l.ended() != nil {
		err = io.EOF
	}
	return n, err
}

// Close ends the stream, also while another goroutine reads it.
func (l *logReader) Close() error {
	l.cancel() // which ends the Read that there may be
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.body.Close()
}

// alignedReader leaves out the rest of the line that its source begins in.
type alignedReader struct {
	io.Closer
	from  *bufio.Reader
	first bool // the beginning of a line has been reached
}

func (a *alignedReader) Read(p []byte) (int, error) {
	for !a.first {
		_, err := a.from.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return 0, err
		}
		a.first = err == nil
	}
	return a.from.Read(p)
}

// LastLines returns the last n lines of a replica's log, oldest first.
func (c *Client) LastLines(ctx context.Context, replica, task, stream string, n int) ([]string, error) {
	r := LogRequest{Replica: replica, Task: task, Stream: stream, TailLines: n}
	if err := r.check(); err != nil {
		return nil, err
	}
	data, _, err := c.end(ctx, r)
	if err != nil {
		return nil, err
	}
	return lastLines(data, n), nil
}

func lastLines(data []byte, n int) []string {
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 || n <= 0 {
		return nil
	}
	lines := strings.Split(strings.ToValidUTF8(string(data), "\uFFFD"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, "\r")
	}
	return lines
}
