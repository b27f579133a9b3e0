package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"
)

// errBodyOver is read from a request's body when nobody may read it any more.
var errBodyOver = errors.New("the request is over")

// streamBody is a request's body on its way to a replica that speaks HTTP/2.
// Whoever sends it reads it on a goroutine of its own, and may go on after the
// response: end makes sure that it does not outlive the request.
//
// The start of it is kept until the response begins, so that a stream which the
// replica did not take can be sent again.
type streamBody struct {
	request *http.Request
	limit   bodyLimit
	buffers *buffers
	trailer http.Header // for the replica: filled in at the end of the body
	whole   atomic.Bool // the client's body has been read to its end

	reading sync.Mutex // held while the client's body is read; taken before mu

	mu     sync.Mutex
	over   bool
	err    error // of the client's body: io.EOF, or why it could not be read
	count  int64 // bytes read of it
	kept   *[]byte
	length int  // bytes of kept
	lost   bool // there was more than kept holds, or nobody keeps it
	at     int  // where in kept the present attempt is
}

// begin has the body start with what has been read of it, for a replica that
// speaks HTTP/1.1 and did not get it. whole says that it is all of it.
func (b *streamBody) begin(read []byte, whole bool) {
	if len(read) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep(read)
	b.at, b.count = 0, int64(len(read))
	if whole {
		b.err = io.EOF
		b.whole.Store(true)
	}
}

// Read is called by one goroutine at a time.
func (b *streamBody) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if n, done, err := b.again(p); done {
		return n, err
	}
	b.limit.renew()
	n, err := b.request.Body.Read(p)
	if errors.Is(err, io.EOF) {
		b.whole.Store(true)
		b.limit.lift()
		b.passTrailers()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count += int64(n)
	b.keep(p[:n])
	b.err = err
	return n, err
}

// again answers a read without the client, if that can be done.
func (b *streamBody) again(p []byte) (n int, done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over:
		return 0, true, errBodyOver
	case b.at < b.length:
		n = copy(p, (*b.kept)[b.at:b.length])
		b.at += n
		return n, true, nil
	}
	return 0, b.err != nil, b.err
}

// Close is called by whoever sends the body when it needs no more of it, also
// while a Read waits, which it then ends, and also when the request is over.
func (b *streamBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut()
	return nil
}

func (b *streamBody) cut() {
	if !b.over && !b.whole.Load() {
		b.limit.cut()
	}
}

func (b *streamBody) keep(p []byte) {
	if b.lost || len(p) == 0 {
		return
	}
	if b.kept == nil {
		b.kept = b.buffers.get()
	}
	if b.length+len(p) > len(*b.kept) {
		b.forget()
		return
	}
	b.length += copy((*b.kept)[b.length:], p)
	b.at = b.length
}

// forget gives up what is kept.
func (b *streamBody) forget() {
	if b.kept != nil {
		b.buffers.put(b.kept)
	}
	b.kept, b.length, b.at, b.lost = nil, 0, 0, true
}

// passTrailers is what the client's trailers become.
func (b *streamBody) passTrailers() {
	for key := range b.trailer {
		for _, v := range b.request.Trailer[key] {
			if httpguts.ValidHeaderFieldValue(v) {
				b.trailer[key] = append(b.trailer[key], v)
			}
		}
	}
}

// answered says that a response has begun: the body is sent no second time.
func (b *streamBody) answered() {
	b.limit.lift()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == b.length {
		b.forget()
	}
}

// rewind makes the body ready to be sent again, if all of it is there.
func (b *streamBody) rewind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lost || !errors.Is(b.err, io.EOF) {
		return false
	}
	b.at = 0
	return true
}

// broken says why the client's body could not be read; nil: it could.
func (b *streamBody) broken() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole.Load() {
		return nil
	}
	return b.err
}

// received is how many bytes the client has sent.
func (b *streamBody) received() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// end makes sure that nobody touches the request any more.
func (b *streamBody) end() {
	b.mu.Lock()
	b.cut()
	b.over = true
	b.mu.Unlock()
	b.reading.Lock() // a read that was under way has ended
	defer b.reading.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
}
