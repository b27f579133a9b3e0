//go:build !unix

package h1

// canLook says whether a connection can be waited for without a buffer.
const canLook = false

func (c *conn) tryRead(uintptr) bool { return true }

func tryReadSocket(uintptr, []byte) (int, error) { return 0, nil }
