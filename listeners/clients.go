package listeners

import (
	"net/netip"
	"sync"
)

// clients counts the open connections, together and by client.
type clients struct {
	mu    sync.Mutex
	open  int
	each  map[netip.Addr]int
	empty chan struct{} // closed when the last connection closes; nil: nobody waits
}

// enter counts a connection, unless there are max already; 0: any number.
func (c *clients) enter(most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && c.open >= most {
		return false
	}
	c.open++
	return true
}

// claim counts a connection, which has entered, for its client, unless that has
// so many already.
func (c *clients) claim(client netip.Addr, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.each[client] >= most {
		return false
	}
	if c.each == nil {
		c.each = map[netip.Addr]int{}
	}
	c.each[client]++
	return true
}

// leave takes a connection out of the counts. client is the zero Addr where it
// was not claimed.
func (c *clients) leave(client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.open == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
	if !client.IsValid() {
		return
	}
	if c.each[client]--; c.each[client] <= 0 {
		delete(c.each, client)
	}
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// quiet returns a channel that is closed when no connection is open.
func (c *clients) quiet() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == 0 {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	if c.empty == nil {
		c.empty = make(chan struct{})
	}
	return c.empty
}
