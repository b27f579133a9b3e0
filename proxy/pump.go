package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/serve-nomad/serve-nomad/upstream"
)

const copyBufferSize = 32 << 10

// buffers are the copy buffers of bodies and tunnels. A request that waits for
// a slot holds none.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, copyBufferSize)
	return &p
}

func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

// pump writes one request's body to the replica, in a goroutine of its own, so
// that an answer that comes before the body's end is not missed.
type pump struct {
	conn    *upstream.Conn
	request *http.Request
	first   []byte // of what has been read of the request; nil: nothing
	buffers *buffers
	proceed chan struct{} // closed when the replica wants the body; nil: at once
	stopped chan struct{} // closed by the exchange: nobody wants the body any more
	done    chan struct{} // closed at the end; the fields below are settled then
	patient time.Duration // how long to wait for proceed
	limit   bodyLimit

	whole    atomic.Bool // the client's body has been read to its end
	received int64       // bytes of it
	broken   error       // the client's body could not be read
	failed   error       // the replica could not be written to
}

func (p *pump) run() {
	defer close(p.done)
	if !p.waitToProceed() {
		return
	}
	if p.failed = p.writeFirst(); p.failed != nil {
		return
	}
	buf := p.buffers.get()
	defer p.buffers.put(buf)
	for {
		p.limit.renew()
		n, err := p.request.Body.Read(*buf)
		p.received += int64(n)
		ended := errors.Is(err, io.EOF)
		if ended {
			p.whole.Store(true)
			p.limit.lift()
		}
		if n > 0 {
			p.failed = p.write((*buf)[:n], ended)
		}
		switch {
		case p.failed != nil:
			return
		case ended:
			p.failed = p.finish()
			return
		case err != nil:
			p.breakOff(err)
			return
		}
	}
}

func (p *pump) writeFirst() error {
	if len(p.first) == 0 {
		return nil
	}
	_, _ = p.conn.W.Write(p.first) // the error stays in W
	return p.conn.W.Flush()
}

// waitToProceed waits until the replica says that it wants the body, or has
// said nothing for a while, which means the same.
func (p *pump) waitToProceed() bool {
	if p.proceed == nil {
		return true
	}
	timer := time.NewTimer(p.patient)
	defer timer.Stop()
	select {
	case <-p.stopped:
		return false
	case <-p.proceed:
	case <-timer.C:
	}
	return true
}

// write sends one piece at once, or leaves it to finish when it is the last.
func (p *pump) write(b []byte, last bool) error {
	w := p.conn.W
	if p.request.ContentLength < 0 {
		writeChunk(w, b)
	} else {
		_, _ = w.Write(b) // the error stays in w
	}
	if last {
		return nil
	}
	return w.Flush()
}

func writeChunk(w *bufio.Writer, b []byte) {
	lines(w, strconv.FormatInt(int64(len(b)), 16), "\r\n")
	_, _ = w.Write(b) // the error stays in w
	lines(w, "\r\n")
}

func (p *pump) finish() error {
	if p.request.ContentLength < 0 {
		lines(p.conn.W, "0\r\n")
		for key, values := range p.request.Trailer {
			// The server checks the names of headers, but not of trailers.
			if hop(key) || ours(key) || imitates(key) || !httpguts.ValidHeaderFieldName(key) {
				continue
			}
			for _, v := range values {
				if httpguts.ValidHeaderFieldValue(v) {
					lines(p.conn.W, key, ": ", v, "\r\n")
				}
			}
		}
		lines(p.conn.W, "\r\n")
	}
	return p.conn.W.Flush()
}

// breakOff ends a body that the client did not send in full: the replica must
// not take what it has for the whole, and whoever waits for its answer is woken.
func (p *pump) breakOff(err error) {
	select {
	case <-p.stopped: // it is the exchange that cut it
	default:
		p.broken = err
		p.conn.WakeReader()
	}
}

// finished says whether the pump has ended, without waiting.
func (p *pump) finished() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the pump wherever it is and waits until it no longer touches the
// request's body. cut makes a read of the body return.
func (p *pump) stop(cut func()) {
	if p.finished() {
		return
	}
	close(p.stopped)
	p.conn.WakeWriter()
	cut()
	<-p.done
}
