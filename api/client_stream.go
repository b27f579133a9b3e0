package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// LogQuery says which log Client.Logs reads.
type LogQuery struct {
	Application string
	Deployment  string
	Replica     string // allocation id or the beginning of one; "": the newest
	Stream      string // stdout | stderr; "": stdout
	Follow      bool
	Tail        int // lines from the end; 0: all that is there
}

// Log is the log of one replica.
type Log struct {
	io.ReadCloser
	Replica string // allocation id
}

// Logs opens the log of one replica. The caller closes it.
func (c *Client) Logs(ctx context.Context, q LogQuery) (*Log, error) {
	query := url.Values{}
	for name, value := range map[string]string{"replica": q.Replica, "stream": q.Stream} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.Follow {
		query.Set("follow", "true")
	}
	if q.Tail > 0 {
		query.Set("tail", strconv.Itoa(q.Tail))
	}
	resp, err := c.send(ctx, request{ //nolint:bodyclose // the Log is closed by the caller
		method: http.MethodGet, query: query,
		path: []string{"v1", "applications", q.Application, "deployments", q.Deployment, "logs"},
	})
	if err != nil {
		return nil, err
	}
	return &Log{ReadCloser: resp.Body, Replica: resp.Header.Get(ReplicaHeader)}, nil
}

// heartbeatLimit is how long an event stream may be silent before it is taken
// for dead.
const heartbeatLimit = 45 * time.Second

// FollowEvents calls each for all events that are remembered and then for each
// that comes, until ctx ends or each returns an error. It connects again when
// the stream breaks.
func (c *Client) FollowEvents(ctx context.Context, application string, each func(raftstate.Event) error) error {
	f := &follower{client: c, application: application, each: each, seen: map[eventKey]bool{}}
	for {
		err := f.once(ctx)
		var stop *stopError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.error
		case err != nil && !f.connected:
			return err
		}
		timer := time.NewTimer(500 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// follower keeps its place in the events over several connections.
type follower struct {
	client      *Client
	application string
	each        func(raftstate.Event) error

	connected bool // at least once
	index     uint64
	seen      map[eventKey]bool
	order     []eventKey // of seen, oldest first
}

// eventKey is what makes two events the same one.
type eventKey struct {
	at                            int64
	kind, application, deployment string
	message                       string
}

// maxRemembered bounds what a follower keeps to tell events that come twice.
const maxRemembered = 4096

// stopError is an error of the caller's own.
type stopError struct{ error }

// once follows one connection to its end.
func (f *follower) once(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"index": {strconv.FormatUint(f.index, 10)}}
	if f.application != "" {
		query.Set("application", f.application)
	}
	resp, err := f.client.send(ctx, request{method: http.MethodGet, path: []string{"v1", "event", "stream"}, query: query})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	f.connected = true
	watchdog := time.AfterFunc(heartbeatLimit, cancel)
	defer watchdog.Stop()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		watchdog.Reset(heartbeatLimit)
		var batch EventBatch
		if err := json.Unmarshal(line, &batch); err != nil {
			return err
		}
		f.index = max(f.index, batch.Index)
		for _, e := range batch.Events {
			if err := f.deliver(e); err != nil {
				return err
			}
		}
	}
}

func (f *follower) deliver(e raftstate.Event) error {
	key := eventKey{e.At.UnixNano(), e.Type, e.Application, e.Deployment, e.Message}
	if f.seen[key] {
		return nil
	}
	f.seen[key] = true
	f.order = append(f.order, key)
	if len(f.order) > maxRemembered {
		delete(f.seen, f.order[0])
		f.order = f.order[1:]
	}
	if err := f.each(e); err != nil {
		return &stopError{err}
	}
	return nil
}
