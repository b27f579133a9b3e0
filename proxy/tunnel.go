package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/serve-nomad/serve-nomad/upstream"
)

// switchProtocols turns the exchange into a tunnel. The replica's slot is taken
// for as long as the tunnel lives; the request's timeout has done its work.
func (x *exchange) switchProtocols(res *http.Response) outcome {
	protocol := upgrade(res.Header)
	if x.head.upgrade == "" || !strings.EqualFold(x.head.upgrade, protocol) {
		x.unwatch()
		x.stopPump()
		x.badResponse(fmt.Errorf("%w: switched to %q, asked for %q", upstream.ErrNotHTTP, protocol, x.head.upgrade))
		return settled
	}
	left := !x.unwatch()
	replica, err := x.conn.TakeOver()
	if left || err != nil {
		x.conn.Close()
		x.release()
		return settled
	}
	x.slot.Answered(res.StatusCode)
	client, rw, err := x.control.Hijack()
	if err != nil {
		x.badResponse(fmt.Errorf("take over the client's connection: %w", err))
		return settled
	}
	x.begun = true
	x.answered(http.StatusSwitchingProtocols)
	t := &tunnel{
		client: client, clientReader: rw.Reader, replica: replica, replicaReader: x.conn.R,
		patience: x.patience, stall: x.proxy.limits.Load().ClientStall, buffers: &x.proxy.buffers,
	}
	done := x.proxy.busy.add(t.close)
	defer done()
	defer x.release()
	defer t.close()
	_ = client.SetWriteDeadline(time.Now().Add(t.stall)) // an error ends the write too
	if _, err := client.Write(switchHead(res.Header, protocol, x.head.id)); err == nil {
		t.run()
	}
	x.record.Received, x.record.Sent = t.received, t.sent
	return settled
}

// switchHead is the head of the 101 response.
func switchHead(h http.Header, protocol, id string) []byte {
	out := http.Header{}
	copyResponseHeader(out, h, id)
	out.Set("Connection", "Upgrade")
	out.Set("Upgrade", protocol)
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = out.Write(&b) // a bytes.Buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// tunnel passes bytes both ways between a client and a replica, whatever they
// mean, and passes on that a side has ended.
type tunnel struct {
	client        net.Conn
	clientReader  *bufio.Reader // with what the server had read ahead
	replica       net.Conn
	replicaReader *bufio.Reader // with what has been read ahead
	patience      time.Duration
	stall         time.Duration // for which the client may read nothing
	buffers       *buffers
	halfDone      atomic.Bool // the client has ended its side

	// Bytes passed on. For who reads them when run has returned.
	received, sent int64
}

func (t *tunnel) close() {
	// Nothing is to be done about a close that fails.
	_ = t.client.Close()
	_ = t.replica.Close()
}

// run returns when both sides have ended, or the one that is left has had its
// time. The replica's end is waited for even when the client has gone.
func (t *tunnel) run() {
	up := make(chan struct{})
	go func() {
		defer close(up)
		t.up()
	}()
	if t.down() {
		closeWrite(t.client)
		_ = t.client.SetReadDeadline(time.Now().Add(t.patience)) // an error ends up's read too
	} else {
		_ = t.client.Close()
	}
	<-up
}

// up copies from the client to the replica.
func (t *tunnel) up() {
	from := flow{r: t.clientReader, buffers: t.buffers}
	defer from.end()
	for {
		b, err := from.next()
		if err == nil {
			var n int
			n, err = t.replica.Write(b)
			t.received += int64(n)
		}
		if err != nil { // an end like any other
			break
		}
	}
	t.halfDone.Store(true)
	closeWrite(t.replica)
	_ = t.replica.SetReadDeadline(time.Now().Add(t.patience)) // an error ends down's read too
}

// down copies from the replica to the client. It says whether the replica has
// ended its side in order and the client has got everything.
func (t *tunnel) down() bool {
	from := flow{r: t.replicaReader, buffers: t.buffers}
	defer from.end()
	reached := true
	for {
		b, err := from.next()
		if len(b) > 0 && reached {
			_ = t.client.SetWriteDeadline(time.Now().Add(t.stall)) // an error ends the write too
			written, werr := t.client.Write(b)
			t.sent += int64(written)
			if werr != nil {
				reached = false
				_ = t.client.Close() // ends up, which tells the replica
			}
		}
		if err != nil {
			return reached && errors.Is(err, io.EOF)
		}
		if t.halfDone.Load() {
			_ = t.replica.SetReadDeadline(time.Now().Add(t.patience)) // an error ends the next read
		}
	}
}

func closeWrite(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // an error means that it is closed already
	}
}

// flow is one way through a tunnel. While little comes it is read into the
// reader's own buffer: a tunnel that is silent holds no other.
type flow struct {
	r       *bufio.Reader
	buffers *buffers
	buf     *[]byte // nil: little comes
	much    bool    // came last
}

// next waits for what comes. It is valid until the next call.
func (f *flow) next() ([]byte, error) {
	if !f.much {
		f.end()
	}
	if f.buf == nil {
		if _, err := f.r.Peek(1); err != nil {
			return nil, err
		}
		if n := f.r.Buffered(); n < f.r.Size() {
			b, err := f.r.Peek(n)
			_, _ = f.r.Discard(n) // it is there
			return b, err
		}
		f.buf = f.buffers.get()
	}
	n, err := f.r.Read(*f.buf)
	f.much = n >= f.r.Size()
	return (*f.buf)[:n], err
}

// end gives the buffer back.
func (f *flow) end() {
	if f.buf != nil {
		f.buffers.put(f.buf)
		f.buf = nil
	}
}
