package gatekeeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/serve-nomad/serve-nomad/slots"
)

// maxLines bounds the lines that one proxy may open here.
const maxLines = 100_000

// busyEvery is how often other proxies hear how busy the replicas are that they
// have lines of.
const busyEvery = 100 * time.Millisecond

// clerk answers one other proxy. The Gatekeeper's mutex guards it.
type clerk struct {
	g       *Gatekeeper
	nc      net.Conn
	holder  *slots.Holder
	who     identity
	own     string // the address whose book it keeps itself; "": none
	lines   map[uint64]*entry
	numbers map[*slots.Replica]uint64 // of the lines that are not closed
	groups  map[slots.Group]int       // how many those are
	queued  map[slots.Group]int       // as it was told last
	wants   uint64                    // messages of that kind that were heard
	out     sender
	over    bool
}

// identity is what makes two connections the same proxy's.
type identity struct {
	name        string
	incarnation uint64
}

// entry is one line of another proxy.
type entry struct {
	page   *slots.Replica
	held   int // slots that the proxy has by this line
	closed bool
	told   int // slots that others have, as it was told last
}

// serve answers one connection until it ends.
func (g *Gatekeeper) serve(nc net.Conn) {
	c := &clerk{
		g: g, nc: nc, lines: map[uint64]*entry{}, numbers: map[*slots.Replica]uint64{},
		groups: map[slots.Group]int{}, queued: map[slots.Group]int{}, out: newSender(),
	}
	defer func() { _ = nc.Close() }() // an error means that it is closed
	stop := context.AfterFunc(g.ctx, func() { _ = nc.Close() })
	defer stop()
	br := bufio.NewReader(nc)
	if err := c.greet(br); err != nil {
		g.refused(nc.RemoteAddr(), err)
		return
	}
	out := newWriter(&c.out, &g.mu, nc, g.config.Silence)
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = out.run() // the reader learns of it
	}()
	bye, err := c.read(br)
	g.mu.Lock()
	out.stop()
	g.mu.Unlock()
	_ = nc.Close()
	<-written
	g.leaves(c, bye, err)
}

// refused tells of a connection that has not become a proxy's.
func (g *Gatekeeper) refused(from net.Addr, err error) {
	var other *otherVersionError
	switch {
	case errors.Is(err, io.EOF): // nothing was said: Consul's check
	case errors.As(err, &other):
		g.mu.Lock()
		told := time.Since(g.toldVersion) < time.Minute
		if !told {
			g.toldVersion = time.Now()
		}
		g.mu.Unlock()
		if !told {
			g.log.Warn("another proxy is refused: it gets no slots of the replicas of this host", "from", from, "error", err)
		}
	default:
		g.log.Debug("connection of another proxy refused", "from", from, "error", err)
	}
}

// greet exchanges hellos, and takes the proxy in.
func (c *clerk) greet(br *bufio.Reader) error {
	g := c.g
	if err := c.nc.SetDeadline(time.Now().Add(g.config.Silence)); err != nil {
		return err
	}
	who, own, err := readHello(br)
	var other *otherVersionError
	if err != nil && !errors.As(err, &other) {
		return err
	}
	if _, werr := c.nc.Write(g.config.hello(g.Own())); err == nil { // which tells also one of another version what it met
		err = werr
	}
	if err != nil {
		return err
	}
	if err = c.nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.who, c.own = who, own
	g.mu.Lock()
	granted, err := c.join()
	g.mu.Unlock()
	tell(granted)
	return err
}

// join makes the proxy one that holds slots here.
func (c *clerk) join() (granted []*Line, err error) {
	g := c.g
	if g.closed || g.own == "" {
		return nil, net.ErrClosed
	}
	for other := range g.clerks {
		if other.who == c.who { // its connection is lost, and only this end does not know yet
			other.end()
			granted = append(granted, g.lose(other, false)...)
		}
	}
	c.holder = g.book.Join(c.who.name)
	g.clerks[c], g.holders[c.holder] = true, c
	return granted, nil
}

// end closes the connection; serve does the rest.
func (c *clerk) end() {
	c.over = true
	_ = c.nc.Close()
}

// read hears what the proxy says. It returns true when the proxy has said that
// it ends.
func (c *clerk) read(br *bufio.Reader) (bye bool, err error) {
	for {
		if br.Buffered() == 0 {
			if err = c.nc.SetReadDeadline(time.Now().Add(c.g.config.Silence)); err != nil {
				return false, err
			}
		}
		m, rerr := readMessage(br)
		if rerr != nil {
			return false, rerr
		}
		switch m.kind {
		case kindPing:
		case kindBye:
			return true, nil
		default:
			c.g.mu.Lock()
			var granted []*Line
			if !c.over {
				granted, err = c.hear(m)
			}
			c.g.mu.Unlock()
			tell(granted)
		}
		if err != nil {
			return false, err
		}
	}
}

// hear acts on one message. Lines of this gatekeeper's own proxy that were given
// a slot by it come back.
func (c *clerk) hear(m message) ([]*Line, error) {
	g := c.g
	switch m.kind {
	case kindOpen:
		return c.open(m)
	case kindDeclared:
		return g.deliver(g.declared(c)), nil
	case kindWant:
		group := slots.Group{Application: m.texts[0], Deployment: m.texts[1]}
		c.wants++
		since := time.Now().Add(-time.Duration(min(m.numbers[1], uint64(time.Hour.Milliseconds()))) * time.Millisecond)
		granted := g.deliver(g.book.Want(c.holder, group, int(min(m.numbers[0], 1<<20)), since))
		g.tellQueued(group)
		return granted, nil
	case kindClose, kindMute, kindLimit, kindOwn, kindAsk, kindRelease:
		return c.hearLine(m)
	default:
		return nil, fmt.Errorf("%w: a proxy does not say %d", errProtocol, m.kind)
	}
}

// hearLine acts on a message about one line.
func (c *clerk) hearLine(m message) ([]*Line, error) {
	g, number := c.g, m.numbers[0]
	e := c.lines[number]
	if e == nil {
		return nil, fmt.Errorf("%w: line %d is not open", errProtocol, number)
	}
	defer g.changed(e.page)
	switch m.kind { //nolint:exhaustive // hear has sorted out the others
	case kindAsk:
		c.ask(number, e)
		return nil, nil
	case kindMute:
		return g.deliver(g.book.Mute(c.holder, e.page, m.numbers[1] != 0)), nil
	case kindOwn:
		address, err := netip.ParseAddrPort(m.texts[0])
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		return g.deliver(g.claim(e.page, address)), nil
	case kindLimit:
		if e.closed {
			return nil, nil
		}
		_, grants := g.book.Open(c.holder, e.page.ID, e.page.Group(), int(min(m.numbers[1], 1<<20)), 0)
		return g.deliver(grants), nil
	case kindClose:
		if !e.closed { // else it has been opened anew
			grants := g.book.Close(c.holder, e.page)
			c.shut(number, e)
			return g.deliver(grants), nil
		}
		return nil, nil
	}
	if e.held == 0 {
		return nil, fmt.Errorf("%w: line %d has no slot", errProtocol, number)
	}
	e.held--
	granted := g.deliver(g.book.Release(c.holder, e.page))
	c.drop(number, e)
	return granted, nil
}

// shut ends a line, but for what its proxy still has by it.
func (c *clerk) shut(number uint64, e *entry) {
	e.closed = true
	delete(c.numbers, e.page)
	group := e.page.Group()
	if c.groups[group]--; c.groups[group] == 0 {
		delete(c.groups, group)
		delete(c.queued, group) // the proxy forgets it too
	}
	c.drop(number, e)
}

func (c *clerk) open(m message) ([]*Line, error) {
	g := c.g
	if len(c.lines) >= maxLines || c.lines[m.numbers[0]] != nil || m.texts[0] == "" {
		return nil, fmt.Errorf("%w: line %d cannot be opened", errProtocol, m.numbers[0])
	}
	held := int(min(m.numbers[2], 1<<20))
	page, grants := g.openPage(c.holder, Replica{
		ID: m.texts[0], Application: m.texts[1], Deployment: m.texts[2], Address: m.texts[3],
		Limit: int(min(m.numbers[1], 1<<20)), Multiplexed: m.numbers[3]&flagMultiplexed != 0,
	}, held, m.numbers[3]&flagHad != 0)
	if old, open := c.numbers[page]; open { // opened anew before the old line had nothing left
		c.shut(old, c.lines[old])
	}
	e := &entry{page: page, held: held, told: -1}
	c.lines[m.numbers[0]] = e
	c.numbers[page] = m.numbers[0]
	c.groups[page.Group()]++
	g.changed(page)
	c.tellBusy(m.numbers[0], e)
	return g.deliver(grants), nil
}

func (c *clerk) ask(number uint64, e *entry) {
	answer := kindRefused
	granted := c.g.book.Take(c.holder, e.page)
	c.g.served.note(granted)
	if granted {
		answer = kindGranted
		e.held++
	}
	e.told = e.page.Busy() - e.page.Held(c.holder)
	c.out.put(message{kind: answer, numbers: [4]uint64{number, uint64(max(e.told, 0))}})
}

// grant tells the proxy of a slot that it wanted.
func (c *clerk) grant(page *slots.Replica) {
	number := c.numbers[page] // only an open line is given what was not asked for
	e := c.lines[number]
	e.held++
	e.told = page.Busy() - page.Held(c.holder)
	c.out.put(message{kind: kindOffered, numbers: [4]uint64{number, uint64(max(e.told, 0)), c.wants}})
}

func (c *clerk) drop(number uint64, e *entry) {
	if e.closed && e.held == 0 {
		delete(c.lines, number)
	}
}

func (c *clerk) tellBusy(number uint64, e *entry) {
	others := max(e.page.Busy()-e.page.Held(c.holder), 0)
	if others == e.told || e.closed {
		return
	}
	e.told = others
	c.out.put(message{kind: kindBusy, numbers: [4]uint64{number, uint64(others)}})
}

// tellQueued lets proxies with lines of the deployment know at once when
// somebody else begins to wait, or no longer does: from then on a free slot must
// go through the book.
func (g *Gatekeeper) tellQueued(group slots.Group) {
	for c := range g.clerks {
		n := g.book.Wanted(group, c.holder)
		if (n == 0) != (c.queued[group] == 0) && c.groups[group] > 0 {
			c.tellQueued(group, n)
		}
	}
}

func (c *clerk) tellQueued(group slots.Group, n int) {
	if c.queued[group] == n {
		return
	}
	c.queued[group] = n
	if n == 0 {
		delete(c.queued, group)
	}
	c.out.put(message{kind: kindQueued, texts: [4]string{group.Application, group.Deployment}, numbers: [4]uint64{uint64(n)}})
}

// report tells everybody what has changed since they were told.
func (g *Gatekeeper) report() {
	for _, l := range g.reportAway() {
		l.hearer.Changed(l)
	}
}

// reportAway tells other proxies, and returns the lines of this one that have
// something to be told.
func (g *Gatekeeper) reportAway() (changed []*Line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.clerks {
		for number, e := range c.lines {
			c.tellBusy(number, e)
		}
		for group := range c.groups {
			c.tellQueued(group, g.book.Wanted(group, c.holder))
		}
		if len(c.out.pending) > maxBacklog {
			c.end()
		}
	}
	for page := range g.peers {
		if g.book.Replica(page.ID) != page {
			delete(g.peers, page)
		}
	}
	for page, l := range g.lines {
		g.changed(page) // nothing that others have may be reckoned with for longer than this
		if l.others.Load() != l.reckoned.Load() {
			changed = append(changed, l)
		}
	}
	return changed
}

// leaves ends a proxy's connection: what it holds is taken back when it has said
// goodbye, and else when its requests have surely ended.
func (g *Gatekeeper) leaves(c *clerk, bye bool, err error) {
	g.mu.Lock()
	if !g.clerks[c] || g.closed { // another connection of the proxy's has taken its place, or the book is another's now
		g.mu.Unlock()
		return
	}
	var granted []*Line
	if bye {
		delete(g.clerks, c)
		delete(g.holders, c.holder)
		granted = g.deliver(g.book.Leave(c.holder))
	} else {
		granted = g.lose(c, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
		g.log.Warn("the connection of another proxy is lost: its slots stay taken until its requests have ended",
			"proxy", c.who.name, "from", c.nc.RemoteAddr(), "error", err)
	}
	for page := range g.lines {
		g.changed(page)
	}
	g.mu.Unlock()
	tell(granted)
}

// lose keeps what a proxy has whose connection is lost.
func (g *Gatekeeper) lose(c *clerk, ended bool) []*Line {
	delete(g.clerks, c)
	delete(g.holders, c.holder)
	grants := g.book.Silence(c.holder)
	g.miss(c, ended)
	return g.deliver(grants)
}
