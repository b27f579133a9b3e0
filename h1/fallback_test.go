package h1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// shareOf is a connection in memory as HTTP/2 gets it, and its other end.
func shareOf(t interface{ Cleanup(func()) }) (*shared, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() {
		_ = a.Close() // the test may have closed them
		_ = b.Close()
	})
	return share(&replayed{Conn: a}), b
}

// TestSharedWritesKeepTheirOrder holds that small writes and large ones arrive in
// full and in order.
func TestSharedWritesKeepTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, other := shareOf(t)
		var want []byte
		sizes := rapid.SliceOf(rapid.SampledFrom([]int{0, 1, 100, smallWrite, smallWrite + 1, 5000, 100_000})).Draw(t, "sizes")
		for i, n := range sizes {
			want = append(want, bytes.Repeat([]byte{byte(i)}, n)...)
		}
		go func() {
			at := 0
			for _, n := range sizes {
				p := bytes.Clone(want[at : at+n])
				if wrote, err := s.Write(p); wrote != n || err != nil {
					t.Errorf("%d of %d bytes, %v", wrote, n, err)
				}
				clear(p) // it is the caller's again
				at += n
			}
		}()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(other, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes differ, %v", len(want), err)
		}
	})
}

// TestSharedWritesWait holds that a client which reads nothing has writes wait,
// rather than fill the memory, until the connection is closed.
func TestSharedWritesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := shareOf(t)
		written, ended := 0, make(chan error)
		go func() {
			for {
				n, err := s.Write(make([]byte, smallWrite))
				if err != nil {
					ended <- err
					return
				}
				written += n
			}
		}()
		synctest.Wait()
		if written < smallWrite || written > 2*maxHeld {
			t.Errorf("%d bytes are held", written)
		}
		_ = s.Close()
		if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
}
