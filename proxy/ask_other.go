//go:build !unix

package proxy

// asking is a request without a body that is to be sent.
type asking struct {
	out []byte // empty: nothing
}

// ask sends what is to be sent, and reads.
func (c *conn) ask(p []byte) (int, error) {
	out := c.asking.out
	c.asking.out = nil
	if _, err := (connWriter{c}).Write(out); err != nil {
		return 0, err
	}
	return c.nc.Read(p)
}
