package h1

import (
	"io"
	"syscall"
)

// ReadReady reads what there is of the body, and waits for nothing: it returns
// 0 and nil where there is nothing, and where only Read can tell. A handler that
// gets all of a small body in this way need not care about a slow client.
func (b *body) ReadReady(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.chunked || b.asks != nil || b.err != nil {
		return 0, nil
	}
	in := &b.c.work.in
	p = p[:min(int64(len(p)), b.left)]
	n := copy(p, in.b[in.r:in.w])
	in.r += n
	if n < len(p) && b.c.raw != nil {
		n += readReady(b.c.raw, p[n:])
	}
	b.left -= int64(n)
	b.rest.Store(b.left)
	if b.left > 0 {
		return n, nil
	}
	b.complete()
	return n, io.EOF
}

// readReady reads what the socket has. An error is left for who waits.
func readReady(raw syscall.RawConn, p []byte) (n int) {
	err := raw.Read(func(fd uintptr) bool {
		n, _ = tryReadSocket(fd, p)
		return true
	})
	if err != nil {
		return 0
	}
	return max(n, 0)
}
