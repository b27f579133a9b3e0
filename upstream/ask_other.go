//go:build !unix

package upstream

// asking is a request that is to be sent.
type asking struct {
	out   []byte             // empty: nothing
	taken func()             // called when the kernel has all of it; nil: nobody needs to know
	short func([]byte) error // not used here
}

// ask sends what is to be sent, and reads.
func (c *Conn) ask(p []byte) (int, error) { return c.askPlainly(p) }
