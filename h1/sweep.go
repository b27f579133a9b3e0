package h1

import (
	"net/http"
	"time"
)

const (
	// tickLength is how often the connections are looked at. Timeouts are
	// kept as exactly as that.
	tickLength = 200 * time.Millisecond
	// firstLook and nextLooks are after how many ticks of a request, and then
	// how often, it is asked whether its client is still there. Where somebody
	// waits to be told, each tick: most likely the request is in a queue, and
	// keeps the place of one that is still wanted.
	firstLook, nextLooks = 2, 5
	// idleTicks is for how many ticks an idle connection keeps its buffers.
	idleTicks = 2
	// lastWait is for how many ticks a new connection may go without a byte
	// while the server shuts down: its request may be on its way.
	lastWait = 5
)

// startSweep makes sure that the sweep runs. The server's mutex is held.
func (s *Server) startSweep() {
	if s.sweeping {
		return
	}
	s.sweeping = true
	if s.woken == nil {
		s.woken = make(chan struct{}, 1)
	}
	go s.sweep()
}

// wake has the sweep look whether it is still needed. The mutex is held.
func (s *Server) wake() {
	if !s.sweeping {
		return
	}
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// sweep looks at the connections until there are neither any nor listeners.
func (s *Server) sweep() {
	ticker := time.NewTicker(tickLength)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			s.setDate(now)
			s.look(s.tick.Add(1))
		case <-s.woken:
			s.mu.Lock()
			if len(s.conns) == 0 && len(s.listeners) == 0 {
				s.sweeping = false
				s.mu.Unlock()
				return
			}
			s.mu.Unlock()
		}
	}
}

func (s *Server) look(tick int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.inspect(tick)
	}
}

// retire ends the connections that are idle.
func (s *Server) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.mu.Lock()
		if c.phase == idle {
			c.expire()
		}
		c.mu.Unlock()
	}
}

// inspect keeps a connection's timeouts, and looks after its client.
func (c *conn) inspect(tick int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := tick - c.since
	head := ticks(c.server.ReadHeaderTimeout)
	switch c.phase {
	case fresh:
		if age > head || (c.server.stopping.Load() && age > lastWait) {
			c.expire()
		} else {
			c.resignAfter(age)
		}
	case idle:
		rest := ticks(c.server.IdleTimeout)
		if c.server.IdleTimeout <= 0 {
			rest = head
		}
		if age > rest || !c.server.keepsAlive() {
			c.expire()
		} else {
			c.resignAfter(age)
		}
	case shaking, reading, finishing:
		if age > head {
			c.expire()
		}
	case serving:
		if looksAt(age, c.work.context.awaited()) && gone(c.nc) {
			c.work.context.end()
		}
	case over:
	}
}

// looksAt says whether a request's client is looked after at that age.
func looksAt(age int64, awaited bool) bool {
	return age >= 1 && awaited || age >= firstLook && (age-firstLook)%nextLooks == 0
}

// resignAfter takes its work from a connection that has not needed it for a
// while. Its mutex is held.
func (c *conn) resignAfter(age int64) {
	if age >= idleTicks && c.resign && c.work != nil {
		c.server.works.Put(c.work)
		c.work = nil
	}
}

// expire makes whatever the connection does fail, but for the answer to a head
// that took too long. Its mutex is held.
func (c *conn) expire() {
	past := time.Unix(1, 0)
	// An error means that it is closed already.
	if c.phase == reading {
		_ = c.nc.SetReadDeadline(past)
	} else {
		_ = c.nc.SetDeadline(past)
	}
	c.phase = over
}

// ticks is how many ticks make a timeout; without one, there are never as many.
func ticks(timeout time.Duration) int64 {
	if timeout <= 0 {
		return 1 << 62
	}
	return int64((timeout + tickLength - 1) / tickLength)
}

// date returns the Date header's line, as of the last tick.
func (s *Server) date() []byte {
	if line := s.dateNow.Load(); line != nil {
		return *line
	}
	return s.setDate(time.Now())
}

func (s *Server) setDate(now time.Time) []byte {
	line := append([]byte("Date: "), now.UTC().Format(http.TimeFormat)...)
	line = append(line, "\r\n"...)
	s.dateNow.Store(&line)
	return line
}
