package gatekeeper

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// totals sums up what the book of g says.
func (g *Gatekeeper) busyOf(id string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if page := g.book.Replica(id); page != nil {
		return page.Busy()
	}
	return 0
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestALineThatLeavesIsGivenNothing closes one with a slot while its proxy waits
// for another: the slot that becomes free by that is not its own again.
func TestALineThatLeavesIsGivenNothing(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	heard := make(events, 100)
	l, _ := k.g.Open(one(1), k.address, 0, heard)
	other, _, heard2 := client(t, "other", k.address)
	defer other.Close()
	if !l.Take() {
		t.Fatal("no slot is free")
	}
	if got := k.g.Want("app", "main", 1, time.Now()); len(got) > 0 {
		t.Fatal("there is no second slot")
	}
	l.Close()
	if n := k.g.busyOf("r"); n != 0 {
		t.Errorf("%d slots are taken by a line that is closed", n)
	}
	other.Want("app", "main", 1, time.Now())
	heard2.expect(t, "offered")
}

// TestAProxyIsBackBeforeItsEndIsSeen has a proxy connect anew while the
// gatekeeper still has its old connection: what it holds counts once.
func TestAProxyIsBackBeforeItsEndIsSeen(t *testing.T) {
	for range 20 {
		config := testConfig("keeper")
		config.Look = (&sockets{list: []Connection{}}).look
		k := keep(t, config, "127.0.0.1:0")
		hello := message{kind: kindHello, texts: [4]string{"p"}, numbers: [4]uint64{protocolVersion, 7}}
		open := message{kind: kindOpen, texts: [4]string{"r", "app", "main", "127.0.0.1:1"}, numbers: [4]uint64{1, 2, 1}}
		b := appendMessage(appendMessage(appendMessage(nil, hello), open), message{kind: kindDeclared})
		var all []net.Conn
		for range 3 {
			nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", k.address)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, nc)
			if _, err = nc.Write(b); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it has said what it holds", func() bool { return k.g.busyOf("r") > 0 })
		}
		eventually(t, "two of its connections are ended", func() bool {
			k.g.mu.Lock()
			defer k.g.mu.Unlock()
			return len(k.g.clerks) == 1
		})
		_, err := all[2].Read(make([]byte, 1)) // the last is the one that is heard
		if err != nil {
			t.Error(err)
		}
		eventually(t, "one slot is taken", func() bool { return k.g.busyOf("r") == 1 && k.g.Status().Missing == 0 })
		for _, nc := range all {
			_ = nc.Close()
		}
		k.close(t)
	}
}

// TestAProxyThatGivesUpOnItsConnectionKeepsItsSlots has the connection stall
// until the proxy gives it up: it is alive, and so are its requests.
func TestAProxyThatGivesUpOnItsConnectionKeepsItsSlots(t *testing.T) {
	seen := &sockets{list: []Connection{}}
	config := testConfig("keeper")
	config.Look = seen.look
	k := keep(t, config, "127.0.0.1:0")
	defer k.close(t)
	config = testConfig("p")
	config.Retry = time.Hour
	g, heard := New(config, hclog.NewNullLogger()), make(events, 100)
	defer g.Close()
	l, _ := g.Open(one(1), k.address, 0, heard)
	heard.expect(t, "found")
	askOf(t, l, heard)
	seen.set([]Connection{{Peer: net.IPv4(127, 0, 0, 1)}})
	eventually(t, "the gatekeeper is past its beginning", func() bool {
		k.g.mu.Lock()
		defer k.g.mu.Unlock()
		return time.Since(k.g.began) > k.g.config.Recovery
	})
	// Nonsense, as a stall's end may be: the proxy gives up.
	k.g.mu.Lock()
	for c := range k.g.clerks {
		c.out.put(message{kind: kindHello})
	}
	k.g.mu.Unlock()
	heard.expect(t, "lost")
	eventually(t, "the gatekeeper has lost it", func() bool { return k.g.Status().Missing > 0 || k.g.busyOf("r") == 0 })
	k.g.look(time.Now())
	if n := k.g.busyOf("r"); n != 1 {
		t.Errorf("%d slots are taken of a replica with one request", n)
	}
}

// TestWhoWaitsBeforeThereAreReplicas is told to the gatekeeper once there are.
func TestWhoWaitsBeforeThereAreReplicas(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	g, heard := New(testConfig("p"), hclog.NewNullLogger()), make(events, 100)
	defer g.Close()
	g.Want("app", "main", 1, time.Now())
	l, _ := g.Open(one(1), k.address, 0, heard)
	heard.expect(t, "found")
	heard.expect(t, "offered")
	// The same when the last of its replicas has gone in between.
	g.Want("app", "main", 1, time.Now())
	l.Close()
	_, _ = g.Open(one(1), k.address, 0, heard)
	heard.expect(t, "found")
	heard.expect(t, "offered")
	g.Want("app", "main", 0, time.Now())
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.parties) != 1 {
		t.Errorf("%d parties", len(g.parties))
	}
}

// TestALineThatMovesInIsNotOverbooked has one with a request come into a book
// whose proxy waits for more.
func TestALineThatMovesInIsNotOverbooked(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	heard := make(events, 100)
	busy := one(1)
	busy.ID = "busy"
	_, _ = k.g.Open(busy, k.address, 1, heard) // so that the proxy has a say in the book
	k.g.Want("app", "main", 1, time.Now())
	_, granted := k.g.Open(one(1), k.address, 1, heard)
	if n := k.g.busyOf("r"); n != 1 || len(granted) != 0 {
		t.Errorf("%d slots are taken, %d given, of a replica with one request and one slot", n, len(granted))
	}
	// The same for a proxy elsewhere.
	other, l, heard2 := client(t, "other", k.address)
	defer other.Close()
	l.Close()
	other.Want("app", "main", 1, time.Now())
	second := one(1)
	second.ID = "second"
	_, _ = other.Open(second, k.address, 1, heard2)
	eventually(t, "it is open", func() bool { return k.g.busyOf("second") > 0 })
	if n := k.g.busyOf("second"); n != 1 {
		t.Errorf("%d slots are taken of a replica with one request and one slot", n)
	}
}

// TestAnOfferToALineThatIsClosed takes the place of no other that is waited for.
func TestAnOfferToALineThatIsClosed(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	holder, _, _ := client(t, "holder", k.address)
	defer holder.Close()
	g, heard := New(testConfig("p"), hclog.NewNullLogger()), make(events, 100)
	defer g.Close()
	l, _ := g.Open(one(1), k.address, 0, heard)
	second := one(1)
	second.ID = "second"
	_, _ = g.Open(second, k.address, 1, make(events, 100))
	heard.expect(t, "found")
	g.Want("app", "main", 1, time.Now()) // the gatekeeper offers a slot of r
	l.Close()                            // which nobody wants any more
	eventually(t, "r is free", func() bool { return k.g.busyOf("r") == 0 })
	g.Want("app", "main", 1, time.Now())
	third := one(1)
	third.ID = "third"
	heard = make(events, 100)
	_, _ = g.Open(third, k.address, 0, heard)
	heard.expect(t, "offered")
}

// TestNobodyWaitsWhoHasSaidSo has a slot be offered before it is heard that one is
// wanted: that it is wanted no more must be said all the same.
func TestNobodyWaitsWhoHasSaidSo(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	g, heard := New(testConfig("p"), hclog.NewNullLogger()), make(events, 100)
	defer g.Close()
	_, _ = g.Open(one(1), listener.Addr().String(), 0, heard)
	nc, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	say := func(m message) {
		if _, err := nc.Write(appendMessage(nil, m)); err != nil {
			t.Fatal(err)
		}
	}
	br := bufio.NewReader(nc)
	wanted := func(slots uint64) {
		for {
			m, err := readMessage(br)
			if err != nil {
				t.Fatalf("it is never said that %d are wanted: %v", slots, err)
			}
			if m.kind == kindWant && m.numbers[0] == slots {
				return
			}
		}
	}
	say(message{kind: kindHello, texts: [4]string{"keeper"}, numbers: [4]uint64{protocolVersion, 1}})
	heard.expect(t, "found")
	g.Want("app", "main", 1, time.Now())
	wanted(1)
	say(message{kind: kindOffered, numbers: [4]uint64{1, 0, 0}})
	heard.expect(t, "offered")
	g.Want("app", "main", 0, time.Now())
	if err = nc.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	wanted(0)
}

// TestLinesThatComeAndGoLeaveNothing opens and closes lines with a request.
func TestLinesThatComeAndGoLeaveNothing(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	g, _, heard := client(t, "p", k.address)
	defer g.Close()
	second := one(5)
	second.ID = "second"
	l, _ := g.Open(second, k.address, 0, heard)
	for range 100 {
		l.Ask() // the answer comes when the line is closed
		l.Close()
		l, _ = g.Open(second, k.address, 1, heard)
	}
	l.Close()
	eventually(t, "one line is left", func() bool {
		k.g.mu.Lock()
		defer k.g.mu.Unlock()
		for c := range k.g.clerks {
			if len(c.lines) != 1 || len(c.numbers) != 1 {
				return false
			}
		}
		return k.g.book.Replica("second") == nil
	})
}

// TestClosingWaitsForNobodySilent has connections that say nothing.
func TestClosingWaitsForNobodySilent(t *testing.T) {
	config := testConfig("keeper")
	config.Silence = time.Hour
	k := keep(t, config, "127.0.0.1:0")
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", k.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	_, _ = k.g.Open(one(1), silent.Addr().String(), 0, make(events, 10))
	from, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	if _, err = io.ReadFull(from, make([]byte, 3)); err != nil { // of its hello
		t.Fatal(err)
	}
	k.close(t)
}

// TestANewGatekeeperKnowsNothingOfWhatItCannotSee has it begin beside a replica
// whose connections nobody sees: it gives out no slot before others have had the
// time to say what they hold.
func TestANewGatekeeperKnowsNothingOfWhatItCannotSee(t *testing.T) {
	config := testConfig("keeper")
	config.Look = (&sockets{}).look
	config.Recovery = 500 * time.Millisecond
	k := keep(t, config, "127.0.0.1:0")
	defer k.close(t)
	began := time.Now()
	early, _, heard := client(t, "early", k.address)
	defer early.Close()
	early.Want("app", "main", 1, time.Now())
	holder, heard2 := New(testConfig("holder"), hclog.NewNullLogger()), make(events, 100)
	defer holder.Close()
	l, _ := holder.Open(one(1), k.address, 1, heard2)
	heard2.expect(t, "found")
	eventually(t, "the beginning is over", func() bool { return time.Since(began) > 2*config.Recovery })
	if len(heard) > 0 || k.g.busyOf("r") != 1 {
		t.Fatalf("%d slots of one are taken", k.g.busyOf("r"))
	}
	l.Release()
	heard.expect(t, "offered")
}

// TestASlotThatWasJustGivenIsNotTakenBack loses a proxy before the connection is
// there that it makes with its slot.
func TestASlotThatWasJustGivenIsNotTakenBack(t *testing.T) {
	config := testConfig("keeper")
	config.Look, config.Recovery = (&sockets{list: []Connection{}}).look, time.Hour
	k := keep(t, config, "127.0.0.1:0")
	defer k.close(t)
	config = testConfig("p")
	config.Retry = time.Hour
	g, heard := New(config, hclog.NewNullLogger()), make(events, 100)
	defer g.Close()
	l, _ := g.Open(one(1), k.address, 0, heard)
	heard.expect(t, "found")
	askOf(t, l, heard)
	k.g.mu.Lock()
	for c := range k.g.clerks {
		c.end()
	}
	k.g.mu.Unlock()
	eventually(t, "the gatekeeper has lost it", func() bool { return k.g.Status().Missing > 0 || k.g.busyOf("r") == 0 })
	k.g.look(time.Now())
	if n := k.g.busyOf("r"); n != 1 {
		t.Errorf("%d slots are taken of a replica that is about to have a request", n)
	}
}

// TestAllLinesAreOpenedByOneLook has a gatekeeper begin with many replicas, each
// with two connections: the system's table is not read for each of them.
func TestAllLinesAreOpenedByOneLook(t *testing.T) {
	looks := 0
	config := testConfig("keeper")
	config.Recovery = time.Hour
	config.Look = func() (Seen, error) {
		looks++
		return seen{{Peer: net.IPv4(127, 0, 0, 1)}, {Peer: net.IPv4(127, 0, 0, 1)}}, nil
	}
	g := New(config, hclog.NewNullLogger())
	defer g.Close()
	const replicas = 1000
	for i := range replicas {
		r := one(2)
		r.ID, r.Own = fmt.Sprint(i), owns(1001)
		_, _ = g.Open(r, "127.0.0.1:1", 1, make(events, 100)) // one of the connections is this proxy's
	}
	g.mu.Lock()
	g.own, g.began = "127.0.0.1:1", time.Now()
	began := time.Now()
	g.moveLines(g.own)
	took := time.Since(began)
	g.mu.Unlock()
	if most := int(took/glimpse) + 1; looks == 0 || looks > most {
		t.Errorf("%d looks in %s, want 1 to %d", looks, took, most)
	}
	if n := g.Status().Missing; n != replicas {
		t.Errorf("%d slots count that nobody has claimed, want %d", n, replicas)
	}
}

// TestOneConnectionMayHaveManyRequests has a proxy vanish that had two requests on
// one connection of HTTP/2.
func TestOneConnectionMayHaveManyRequests(t *testing.T) {
	seen := &sockets{list: []Connection{}}
	config := testConfig("keeper")
	config.Look = seen.look
	k := keep(t, config, "127.0.0.1:0")
	defer k.close(t)
	g, heard := New(testConfig("dying"), hclog.NewNullLogger()), make(events, 100)
	many := one(2)
	many.Multiplexed = true
	l, _ := g.Open(many, k.address, 0, heard)
	heard.expect(t, "found")
	askOf(t, l, heard)
	askOf(t, l, heard)
	seen.set([]Connection{{Peer: net.IPv4(127, 0, 0, 1), Left: true}})
	vanish(g)
	eventually(t, "it is missed", func() bool { return k.g.Status().Missing == 2 })
	k.g.look(time.Now().Add(time.Second))
	if n := k.g.busyOf("r"); n != 2 {
		t.Fatalf("%d slots are taken while the connection is open that had two requests", n)
	}
	seen.set([]Connection{})
	eventually(t, "both are free", func() bool { return k.g.busyOf("r") == 0 })
}

// TestALimitIsTheLowestThatIsSaid has one proxy hear of a change later than the
// other.
func TestALimitIsTheLowestThatIsSaid(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	early, heard := New(testConfig("early"), hclog.NewNullLogger()), make(events, 100)
	defer early.Close()
	l, _ := early.Open(one(2), k.address, 0, heard)
	heard.expect(t, "found")
	late, heard2 := New(testConfig("late"), hclog.NewNullLogger()), make(events, 100)
	l2, _ := late.Open(one(2), k.address, 0, heard2)
	heard2.expect(t, "found")
	l.SetLimit(1)
	l.Ask()
	heard.expect(t, "granted")
	l2.Ask()
	heard2.expect(t, "refused")
	l2.SetLimit(1)
	l2.Ask()
	heard2.expect(t, "refused") // so that it has been heard
	l.SetLimit(2)
	l.Ask()
	heard.expect(t, "refused")
	early.Want("app", "main", 1, time.Now())
	late.Close() // nobody says 1 any more
	heard.expect(t, "offered")
}

// owns says that a proxy's connections are those from these ports.
func owns(ports ...uint16) func() []netip.AddrPort {
	return func() (own []netip.AddrPort) {
		for _, port := range ports {
			own = append(own, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
		}
		return own
	}
}

// TestAConnectionThatNobodyClaimsCounts has a gatekeeper begin while one proxy
// with a request cannot be reached, for longer than it gives others to say what
// they hold.
func TestAConnectionThatNobodyClaimsCounts(t *testing.T) {
	for _, way := range []string{"killed", "upgraded", "nobody is missing any more"} {
		t.Run(way, func(t *testing.T) {
			loopback := net.IPv4(127, 0, 0, 1)
			seen := &sockets{list: []Connection{{Peer: loopback}, {Peer: loopback}}}
			config := testConfig("keeper")
			config.Look, config.Recovery = seen.look, time.Millisecond
			k := keep(t, testConfig("before"), "127.0.0.1:0")
			near := New(testConfig("near"), hclog.NewNullLogger())
			defer near.Close()
			heard := make(events, 100)
			r := one(2)
			r.Own = owns(1001)
			_, _ = near.Open(r, k.address, 0, heard)
			heard.expect(t, "found")
			far, heard2 := New(testConfig("far"), hclog.NewNullLogger()), make(events, 100)
			l2, _ := far.Open(one(2), k.address, 0, heard2)
			heard2.expect(t, "found")
			askOf(t, l2, heard2)
			vanish(far)
			var state []byte
			if way == "upgraded" {
				state = k.g.Yield()
			}
			k.close(t)
			heard.expect(t, "lost")

			next := &keeping{g: New(config, hclog.NewNullLogger()), address: k.address, done: make(chan error, 1)}
			if err := next.g.Inherit(state); err != nil {
				t.Fatal(err)
			}
			next.g.Expect([]string{next.address, "far"})
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", k.address)
			if err != nil {
				t.Fatal(err)
			}
			go func() { next.done <- next.g.Keep(listener, next.address) }()
			defer next.close(t)
			heard.expect(t, "found")
			near.Want("app", "main", 2, time.Now())
			heard.expect(t, "offered")
			next.g.look(time.Now().Add(time.Second))
			if n := next.g.Status().Missing; n != 1 {
				t.Fatalf("%d slots count as the other one's, whose request goes on", n)
			}
			if way == "nobody is missing any more" {
				next.g.Expect([]string{next.address})
			} else {
				seen.set([]Connection{{Peer: loopback}})
			}
			heard.expect(t, "offered")
		})
	}
}

// TestAProxyThatComesBackCountsOnce has a proxy with a request lose its connection to
// the gatekeeper: once it is back, the gatekeeper's own proxy reckons with that
// request, and not with two.
func TestAProxyThatComesBackCountsOnce(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	own, _ := k.g.Open(one(3), k.address, 0, make(events, 100))
	far, heard := New(testConfig("far"), hclog.NewNullLogger()), make(events, 100)
	defer far.Close()
	l, _ := far.Open(one(3), k.address, 0, heard)
	heard.expect(t, "found")
	askOf(t, l, heard)
	for range 20 {
		k.g.mu.Lock()
		for c := range k.g.clerks {
			c.end()
		}
		k.g.mu.Unlock()
		heard.expect(t, "lost")
		heard.expect(t, "found")
		eventually(t, "it is missed no more", func() bool { return k.g.Status().Missing == 0 })
		eventually(t, "its request counts once", func() bool { return own.Others() == 1 })
	}
}

// TestALookThatFailsShowsNothing has the system's table not be readable for a while:
// the slots of one that has vanished stay taken.
func TestALookThatFailsShowsNothing(t *testing.T) {
	config := testConfig("keeper")
	config.Recovery = time.Millisecond
	loopback := net.IPv4(127, 0, 0, 1)
	var broken atomic.Bool
	config.Look = func() (Seen, error) {
		if broken.Load() {
			return seen(nil), errors.New("too many open files")
		}
		return seen{{Peer: loopback}}, nil
	}
	g := New(config, hclog.NewNullLogger())
	defer g.Close()
	g.mu.Lock()
	g.own, g.began = "127.0.0.1:1", time.Now().Add(time.Hour) // so that it is new for all of the test
	g.mu.Unlock()
	_, _ = g.Open(one(1), "127.0.0.1:1", 0, make(events, 10))
	broken.Store(true)
	g.look(time.Now().Add(time.Second))
	if n := g.Status().Missing; n != 1 {
		t.Errorf("%d slots count as somebody's whose connection is open", n)
	}
}
