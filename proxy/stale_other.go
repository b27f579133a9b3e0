//go:build !unix

package proxy

// stale cannot look at the socket here; a request that meets a closed
// connection is sent again where that is safe.
func (c *conn) stale() bool { return c.br.Buffered() > 0 }

type look struct{}
