package h1

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// maxRest is how much of a body that the handler has not read is read for it, so
// that the connection can be kept.
const maxRest = 256 << 10

// body is the body of one request. It is made for each, so that a handler that
// reads it too late meets an error and not the next request.
type body struct {
	mu      sync.Mutex
	c       *conn
	request *http.Request
	chunked bool
	left    int64 // bytes of the body, or of the chunk under way, to come
	inChunk bool  // the CRLF after a chunk's bytes is still to come
	extra   int   // bytes of extensions seen
	err     error // io.EOF: it has been read in full
	closed  bool
	whole   atomic.Bool   // it has been read in full
	rest    atomic.Int64  // as left, of a body with a length
	asks    *continuation // nil: the client did not wait to be asked
}

// Read reads what there is. The end comes with the last bytes where that is
// known without waiting.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.read(p)
}

// Close ends the reading. What is left is not read here.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

func (b *body) read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	b.asks.ask(b.c.nc)
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(true); err != nil {
			return 0, b.broken(err)
		}
		if b.err != nil {
			return 0, b.err
		}
	}
	n, err := b.c.readBody(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.rest.Store(b.left)
	if err != nil {
		return n, b.broken(err)
	}
	if b.left > 0 {
		return n, nil
	}
	if !b.chunked {
		b.complete()
		return n, io.EOF
	}
	b.inChunk = true
	if err := b.nextChunk(false); err != nil {
		return n, b.broken(err)
	}
	return n, b.err
}

// broken keeps an error. A timeout passes with its deadline, and the
// connection's end is not the body's.
func (b *body) broken(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if !isTimeout(err) {
		b.err = err
	}
	return err
}

func (b *body) complete() {
	b.err = io.EOF
	b.whole.Store(true)
}

// drain reads what the handler has left, and says whether the next request
// begins behind it.
func (b *body) drain() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.whole.Load()
	}
	if b.asks != nil || b.left > maxRest {
		return false
	}
	var scratch [1 << 10]byte
	for n := 0; n < maxRest; {
		read, err := b.read(scratch[:])
		if err != nil {
			return b.whole.Load()
		}
		n += read
	}
	return false
}

// end takes the body from the handler.
func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// continuation is a client that waits for a 100 before it sends its body.
type continuation struct {
	mu   sync.Mutex
	done bool // it has been asked, or will not be
}

// ask sends the 100, once. A nil one has nobody to ask.
func (a *continuation) ask(w io.Writer) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return
	}
	a.done = true
	// An error shows again in the read that follows.
	_, _ = io.WriteString(w, "HTTP/1.1 100 Continue\r\n\r\n")
}

// hold keeps the 100 from being sent until letGo, which may say that it has been.
func (a *continuation) hold() {
	if a != nil {
		a.mu.Lock()
	}
}

func (a *continuation) letGo(asked bool) {
	if a != nil {
		a.done = a.done || asked
		a.mu.Unlock()
	}
}

// forgo makes sure that no 100 is sent from now on.
func (a *continuation) forgo() {
	a.hold()
	a.letGo(true)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
