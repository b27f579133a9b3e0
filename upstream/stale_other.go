//go:build !unix

package upstream

// Stale cannot look at the socket here; a request that meets a closed
// connection is sent again where that is safe.
func (c *Conn) Stale() bool { return c.R.Buffered() > 0 }

type look struct{}
