package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// Bounds on what waits to be written. A buffer of each size is being filled
// while another is written.
const (
	maxEntries = 8192
	maxText    = 4 << 20 // bytes of what clients sent
	maxField   = 4096    // bytes of one field of it; more is cut off
	maxHeaders = 8
)

// What an entry has of the client's request, in this order; headers follow.
const (
	fieldID = iota
	fieldClient
	fieldProtocol
	fieldMethod
	fieldHost
	fieldPath
	fieldRawPath // as it was escaped; "": the usual way
	fieldQuery
	fieldHeaders
)

// entry is a request that has ended: its record, and where in a batch's text
// the strings are that the client sent. Copies keep no request alive.
type entry struct {
	proxy.Record
	tls     bool
	start   int
	lengths [fieldHeaders + maxHeaders]uint16
}

// scheme is that of the request's URL.
func (e *entry) scheme() string {
	if e.tls {
		return "https"
	}
	return "http"
}

// batch is entries with the text that belongs to them.
type batch struct {
	entries []entry
	text    []byte
}

// add appends a record, with some of its request's headers.
func (b *batch) add(r *proxy.Record, headers []string) {
	b.entries = append(b.entries, entry{Record: *r, tls: r.Request.TLS != nil, start: len(b.text)})
	e := &b.entries[len(b.entries)-1]
	e.Request, e.Series, e.ID = nil, nil, ""
	req := r.Request
	for i, s := range [...]string{
		fieldID: r.ID, fieldClient: req.RemoteAddr, fieldProtocol: req.Proto, fieldMethod: req.Method, fieldHost: req.Host,
		fieldPath: req.URL.Path, fieldRawPath: req.URL.RawPath, fieldQuery: req.URL.RawQuery,
	} {
		e.lengths[i] = b.keep(s)
	}
	for i, key := range headers {
		if values := req.Header[key]; len(values) > 0 {
			e.lengths[fieldHeaders+i] = b.keep(values[0])
		}
	}
}

func (b *batch) keep(s string) uint16 {
	if len(s) > maxField {
		s = s[:maxField]
	}
	b.text = append(b.text, s...)
	return uint16(len(s))
}

// fields returns the text of an entry, field by field.
func (b *batch) fields(e *entry) (fields [fieldHeaders + maxHeaders][]byte) {
	at := e.start
	for i, n := range e.lengths {
		fields[i] = b.text[at : at+int(n)]
		at += int(n)
	}
	return fields
}

// outcomes counts what became of records, over all outputs of one kind that
// there have been: a reload begins another output, and no count anew.
type outcomes struct {
	kept    atomic.Uint64
	failed  atomic.Uint64 // of those kept: could not be written or sent
	dropped atomic.Uint64
	told    atomic.Uint64 // of those dropped
}

// untold returns how many were dropped since it was called last.
func (t *outcomes) untold() uint64 {
	now := t.dropped.Load()
	return now - t.told.Swap(now)
}

// queue is requests that have ended and are to be told of. Whoever puts one
// there never waits: what does not fit is counted and forgotten.
type queue struct {
	headers []string      // to be kept, in canonical form
	gather  time.Duration // for which entries are gathered, so that many are handled at once
	wake    chan struct{} // the first entry has come
	hurry   chan struct{} // half of the room is taken
	retired chan struct{} // closed by retire
	count   *outcomes

	mu      sync.Mutex
	filling *batch
	over    bool // nothing more is taken
}

func newQueue(headers []string, gather time.Duration, count *outcomes) *queue {
	return &queue{
		headers: headers, gather: gather, count: count, filling: &batch{},
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), retired: make(chan struct{}),
	}
}

// put takes a record in, or drops it for want of room. false says that the queue
// has retired, and another one has taken its place.
func (q *queue) put(r *proxy.Record) bool {
	q.mu.Lock()
	if q.over {
		q.mu.Unlock()
		return false
	}
	if len(q.filling.entries) >= maxEntries || len(q.filling.text) >= maxText {
		q.mu.Unlock()
		q.count.dropped.Add(1)
		return true
	}
	q.filling.add(r, q.headers)
	n := len(q.filling.entries)
	q.mu.Unlock()
	q.count.kept.Add(1)
	switch n {
	case 1:
		signal(q.wake)
	case maxEntries / 2:
		signal(q.hurry)
	}
	return true
}

// retire has run end once what is there is handled. Nothing more is taken from
// here on, so that no record is left behind.
func (q *queue) retire() {
	q.mu.Lock()
	q.over = true
	q.mu.Unlock()
	close(q.retired)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has been given
	}
}

// take exchanges the batch that is being filled for an empty one.
func (q *queue) take(empty *batch) *batch {
	empty.entries, empty.text = empty.entries[:0], empty.text[:0]
	q.mu.Lock()
	defer q.mu.Unlock()
	full := q.filling
	q.filling = empty
	return full
}

// run hands batches to handle until ctx ends or the queue retires, and then what
// is left.
func (q *queue) run(ctx context.Context, handle func(*batch)) {
	spare := &batch{}
	timer := time.NewTimer(q.gather)
	defer timer.Stop()
	for ended := false; !ended; {
		select {
		case <-q.wake:
			timer.Reset(q.gather)
			select {
			case <-timer.C:
			case <-q.hurry:
			case <-q.retired:
			case <-ctx.Done():
			}
		case <-q.retired:
			ended = true
		case <-ctx.Done():
			ended = true
		}
		b := q.take(spare)
		handle(b)
		spare = b
	}
}
