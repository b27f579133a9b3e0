package gatekeeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/serve-nomad/serve-nomad/slots"
)

// maxBacklog bounds what waits to be sent to a peer that does not read.
const maxBacklog = 4 << 20

// link is the connection to another gatekeeper, made again when it is lost. The
// Gatekeeper's mutex guards it.
type link struct {
	g       *Gatekeeper
	address string
	lines   map[uint64]*Line
	next    uint64
	ready   bool   // it is connected, and the lines are open
	over    bool   // nobody needs it any more
	wants   uint64 // kindWant said on this connection
	out     sender
}

// linkTo returns the link to a gatekeeper. The caller holds the mutex.
func (g *Gatekeeper) linkTo(address string) *link {
	l := g.links[address]
	if l == nil {
		l = &link{g: g, address: address, lines: map[uint64]*Line{}, out: newSender()}
		g.links[address] = l
		if !g.closed {
			g.work.Go(l.run)
		}
	}
	return l
}

// open gives the line a number, and tells the gatekeeper of it.
func (l *link) open(line *Line) {
	l.next++
	line.number, line.link, line.page = l.next, l, nil
	l.lines[line.number] = line
	s := line.party.away[l]
	if s == nil {
		s = &stand{}
		line.party.away[l] = s
	}
	s.lines++
	if l.ready {
		l.present(line)
		l.want(line.party, s)
	}
}

// present says all of one line that the gatekeeper must know.
func (l *link) present(line *Line) {
	r := line.replica
	l.send(message{
		kind:    kindOpen,
		texts:   [4]string{r.ID, r.Application, r.Deployment, r.Address},
		numbers: [4]uint64{line.number, uint64(max(r.Limit, 1)), uint64(line.held), flag(r.Multiplexed)*flagMultiplexed | flag(line.had)*flagHad},
	})
	line.had = true
	for _, address := range r.own() {
		l.send(message{kind: kindOwn, texts: [4]string{address.String()}, numbers: [4]uint64{line.number}})
	}
	if line.muted {
		l.send(line.muting())
	}
}

// close takes the line off the link. Without lines the link ends.
func (l *link) close(line *Line) {
	for range line.held {
		l.send(message{kind: kindRelease, numbers: [4]uint64{line.number}})
	}
	l.send(message{kind: kindClose, numbers: [4]uint64{line.number}})
	delete(l.lines, line.number)
	s := line.party.away[l]
	if s.lines--; s.lines == 0 {
		delete(line.party.away, l)
		if s.told > 0 {
			l.sayWant(line.party, s, 0)
		}
	} else if s.told > 0 {
		// What was offered to this line, and is on its way, was not had.
		s.told = -1
		l.want(line.party, s)
	}
	if len(l.lines) == 0 {
		l.send(message{kind: kindBye})
		l.finish()
		if l.g.links[l.address] == l {
			delete(l.g.links, l.address)
		}
	}
}

// want tells the gatekeeper how many slots of the deployment are waited for. It
// is told a little more than is needed rather than each change: what is given
// too much comes back at once.
func (l *link) want(p *party, s *stand) {
	want := roundUp(p.want)
	if s.told == want || (s.told >= p.want && s.told <= 2*p.want) || !l.ready {
		return
	}
	l.sayWant(p, s, want)
}

func (l *link) sayWant(p *party, s *stand, want int) {
	l.wants++
	s.told, s.toldAt = want, l.wants
	ago := uint64(max(time.Since(p.since).Milliseconds(), 0))
	l.send(message{kind: kindWant, texts: [4]string{p.group.Application, p.group.Deployment}, numbers: [4]uint64{uint64(want), ago}})
}

// roundUp rounds to three significant bits.
func roundUp(n int) int {
	unit := 1
	for n/unit >= 8 {
		unit *= 2
	}
	return (n + unit - 1) / unit * unit
}

// send has a message written soon. Before the link is ready nothing is sent: it
// begins with all that there is to say.
func (l *link) send(m message) {
	if l.ready {
		l.out.put(m)
	}
}

// finish ends the link once what was sent before is written.
func (l *link) finish() {
	l.over = true
	l.out.finish()
}

// run keeps the connection.
func (l *link) run() {
	g := l.g
	for tries := 0; ; tries++ {
		began := time.Now()
		err := l.connect()
		g.mu.Lock()
		over := l.over
		lines := l.down()
		g.mu.Unlock()
		for _, line := range lines {
			line.hearer.Lost(line)
		}
		if over || g.ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Second {
			tries = 0
		}
		if tries == 0 || tries == 20 {
			g.log.Warn("gatekeeper cannot be reached: its replicas get no new requests until it can",
				"address", l.address, "error", err)
		}
		timer := time.NewTimer(g.config.Retry * time.Duration(min(tries+1, 5)))
		select {
		case <-timer.C:
		case <-g.ctx.Done():
			timer.Stop()
		case <-l.out.done:
			timer.Stop()
		}
	}
}

// down notes that the connection is lost, and returns the lines that had one.
func (l *link) down() []*Line {
	if !l.ready {
		return nil
	}
	l.ready = false
	lines := make([]*Line, 0, len(l.lines))
	for _, line := range l.lines {
		*line.party.away[l] = stand{lines: line.party.away[l].lines}
		lines = append(lines, line)
	}
	return lines
}

// connect connects once, and returns when the connection has ended.
func (l *link) connect() error {
	g := l.g
	select {
	case <-l.out.done:
		return net.ErrClosed
	default:
	}
	d := net.Dialer{Timeout: g.config.Silence}
	nc, err := d.DialContext(g.ctx, "tcp", l.address)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }() // an error means that it is closed
	br := bufio.NewReader(nc)
	stop := context.AfterFunc(g.ctx, func() { _ = nc.Close() })
	err = l.greet(nc, br)
	if stop(); err != nil {
		return err
	}
	g.mu.Lock()
	if l.over || g.closed {
		g.mu.Unlock()
		return net.ErrClosed
	}
	lines := l.begin()
	out := newWriter(&l.out, &g.mu, nc, g.config.Silence)
	g.mu.Unlock()
	written := make(chan error, 1)
	go func() { written <- out.run() }()
	for _, line := range lines {
		line.hearer.Found(line)
	}
	err = l.read(nc, br)
	g.mu.Lock()
	out.stop()
	if !l.over {
		abort(nc)
	}
	g.mu.Unlock()
	_ = nc.Close() // ends the writer
	return errors.Join(err, <-written)
}

// greet exchanges hellos.
func (l *link) greet(nc net.Conn, br *bufio.Reader) error {
	c := l.g.config
	if err := nc.SetDeadline(time.Now().Add(c.Silence)); err != nil {
		return err
	}
	if _, err := nc.Write(c.hello(l.g.Own())); err != nil {
		return err
	}
	if _, _, err := readHello(br); err != nil {
		return err
	}
	return nc.SetDeadline(time.Time{})
}

// begin says all that the gatekeeper must know, and returns the lines.
func (l *link) begin() []*Line {
	l.ready, l.wants = true, 0
	l.out.clear()
	lines := make([]*Line, 0, len(l.lines))
	for _, line := range l.lines {
		l.present(line)
		lines = append(lines, line)
	}
	l.send(message{kind: kindDeclared})
	for _, line := range lines {
		l.want(line.party, line.party.away[l])
	}
	return lines
}

// read hears what the gatekeeper says.
func (l *link) read(nc net.Conn, br *bufio.Reader) error {
	for {
		if br.Buffered() == 0 {
			if err := nc.SetReadDeadline(time.Now().Add(l.g.config.Silence)); err != nil {
				return err
			}
		}
		m, err := readMessage(br)
		if err != nil {
			return err
		}
		if err = l.hear(m); err != nil {
			return err
		}
	}
}

func (l *link) hear(m message) error {
	switch m.kind {
	case kindPing:
	case kindQueued:
		if l.queued(slots.Group{Application: m.texts[0], Deployment: m.texts[1]}, int(min(m.numbers[0], 1<<30))) {
			l.contested(slots.Group{Application: m.texts[0], Deployment: m.texts[1]})
		}
	case kindGranted, kindRefused, kindOffered, kindBusy:
		l.answered(m)
	default:
		return fmt.Errorf("%w: a gatekeeper does not say %d", errProtocol, m.kind)
	}
	return nil
}

// queued notes how many requests wait at other proxies, and says whether there
// are some now and were none before.
func (l *link) queued(group slots.Group, n int) (began bool) {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	p := l.g.parties[group]
	if p == nil || p.away[l] == nil {
		return false
	}
	began = p.away[l].queued == 0 && n > 0
	p.away[l].queued = n
	return began
}

func (l *link) contested(group slots.Group) {
	var lines []*Line
	l.g.mu.Lock()
	for _, line := range l.lines {
		if line.party.group == group {
			lines = append(lines, line)
		}
	}
	l.g.mu.Unlock()
	for _, line := range lines {
		line.hearer.Contested(line)
	}
}

// answered takes what the gatekeeper says of one line.
func (l *link) answered(m message) {
	slot := m.kind == kindGranted || m.kind == kindOffered
	g := l.g
	g.mu.Lock()
	switch {
	case slot:
		g.away.Granted++
	case m.kind == kindRefused:
		g.away.Refused++
	}
	line := l.lines[m.numbers[0]]
	if line == nil {
		// It was closed, or has moved, before the gatekeeper knew.
		if slot {
			l.send(message{kind: kindRelease, numbers: [4]uint64{m.numbers[0]}})
		}
		g.mu.Unlock()
		return
	}
	line.others.Store(int64(min(m.numbers[1], 1<<30)))
	if slot {
		line.held++
	}
	// One that was given before the gatekeeper heard what is wanted now does
	// not count.
	if s := line.party.away[l]; m.kind == kindOffered && s.told > 0 && m.numbers[2] >= s.toldAt {
		s.told--
	}
	g.mu.Unlock()
	switch {
	case m.kind == kindGranted:
		line.hearer.Granted(line)
	case slot:
		line.hearer.Offered(line)
	case m.kind == kindRefused:
		line.hearer.Refused(line)
	default:
		line.hearer.Changed(line)
	}
}
