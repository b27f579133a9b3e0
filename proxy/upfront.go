package proxy

import (
	"errors"
	"io"

	"github.com/serve-nomad/serve-nomad/gate"
)

// A body of less than upfrontBody bytes is sent with its head, in one piece and
// without a goroutine. The buffer has upfrontHead bytes of room before it for the
// head.
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

// gather reads a small body before the request has a slot, which a client that
// sends slowly would hold meanwhile. It returns false where the request needs none:
// it has been answered, or its client has left.
func (t *transit) gather() bool {
	length := t.r.ContentLength
	if t.body == nil || length <= 0 || length >= upfrontBody || t.grpc || expectsContinue(t.r) || len(t.r.Trailer) > 0 {
		return true
	}
	u := &t.upfront
	u.buffers = &t.proxy.buffers
	u.buf = u.buffers.get()
	room := (*u.buf)[upfrontHead : upfrontHead+length+1] // one more, to learn that it ends
	var err error
	if body, ok := t.body.Body.(readyReader); ok {
		for n := 1; n > 0 && err == nil; {
			n, err = body.ReadReady(room[u.n:])
			u.n += n
		}
	}
	if err == nil {
		err = t.await(room)
	}
	u.read, t.touched = int64(u.n), true
	if u.whole = errors.Is(err, io.EOF); u.whole {
		return true
	}
	switch {
	case timedOut(err) && t.late():
		t.refuse(gate.ErrDeadline)
	case t.ctx.Err() == nil || timedOut(err):
		fault := brokenBody(err)
		t.fail(fault.Status, fault.Code, fault.Message)
	}
	return false
}

// await reads until the body ends, however long that takes within its limits.
func (t *transit) await(room []byte) error {
	limit := t.bodyLimit()
	limit.last = t.deadline
	for u := &t.upfront; ; {
		limit.renew()
		n, err := t.body.Body.Read(room[u.n:])
		if u.n += n; err != nil {
			limit.lift()
			return err
		}
	}
}

// held is how many bytes the request has of its body, or may come to have, while
// it waits.
func (t *transit) held() int64 {
	switch {
	case t.upfront.buf != nil:
		return copyBufferSize
	case t.body == nil || t.r.ProtoMajor != 2:
		return 0
	case t.r.ContentLength < 0:
		return frontBuffer
	}
	return min(t.r.ContentLength, frontBuffer)
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
