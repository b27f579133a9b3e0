package proxy

import (
	"errors"
	"io"
)

// A body of up to upfrontBody bytes that has come with its head is sent with
// it, in one piece and without a goroutine. The buffer has upfrontHead bytes of
// room before it for the head.
const (
	upfrontHead = 4 << 10
	upfrontBody = copyBufferSize - upfrontHead
)

// upfront is what has been read of a request's body before any of it was sent.
// It is there again where the request has to be sent a second time.
type upfront struct {
	buffers *buffers
	buf     *[]byte // nil: nothing
	n       int     // bytes of the body, behind the room for the head
	read    int64   // as many, and still when they have been let go
	whole   bool    // it is all of it
}

// readyReader is a request's body that can say what there is without waiting.
type readyReader interface {
	ReadReady(p []byte) (int, error)
}

// readUpfront reads what there is of a small body, and says whether it is all of
// it.
func (x *exchange) readUpfront() bool {
	u := &x.upfront
	length := x.body.ContentLength
	body, ok := x.body.Body.(readyReader)
	if u.whole || !ok || length <= 0 || length > upfrontBody || expectsContinue(x.body) {
		return u.whole
	}
	if u.buf == nil {
		u.buffers = &x.proxy.buffers
		u.buf = u.buffers.get()
	}
	for {
		n, err := body.ReadReady((*u.buf)[upfrontHead+u.n : upfrontHead+int(length)])
		u.n += n
		u.read += int64(n)
		if n == 0 || err != nil {
			u.whole = errors.Is(err, io.EOF)
			x.touched = x.touched || u.n > 0
			return u.whole
		}
	}
}

// bytes is what has been read.
func (u *upfront) bytes() []byte {
	if u.buf == nil {
		return nil
	}
	return (*u.buf)[upfrontHead : upfrontHead+u.n]
}

// behind puts the head before the bytes. It must fit there.
func (u *upfront) behind(head []byte) []byte {
	start := upfrontHead - len(head)
	copy((*u.buf)[start:], head)
	return (*u.buf)[start : upfrontHead+u.n]
}

// drop lets go of the bytes: the replica has them, or will not get them.
func (u *upfront) drop() {
	if u.buf != nil {
		u.buffers.put(u.buf)
		u.buf, u.n = nil, 0
	}
}
