package gatekeeper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replicas counts what each replica has, as the replica itself would.
type replicas struct {
	limit   int
	present map[string]*atomic.Int64
	most    atomic.Int64
	served  atomic.Int64
}

func newReplicas(n, limit int) *replicas {
	rs := &replicas{limit: limit, present: map[string]*atomic.Int64{}}
	for i := range n {
		rs.present[fmt.Sprintf("r%d", i)] = &atomic.Int64{}
	}
	return rs
}

func (rs *replicas) enter(id string) {
	n := rs.present[id].Add(1)
	for {
		most := rs.most.Load()
		if n <= most || rs.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (rs *replicas) leave(id string) { rs.present[id].Add(-1); rs.served.Add(1) }

// crowd is a proxy with requests: it takes slots as a proxy's gate does.
type crowd struct {
	g     *Gatekeeper
	mu    sync.Mutex
	lines []*Line
	want  int
	slots chan *Line
}

func (c *crowd) Granted(l *Line) { c.got(l) }
func (c *crowd) Offered(l *Line) { c.got(l) }
func (c *crowd) Refused(*Line)   {}
func (c *crowd) Lost(*Line)      {}
func (c *crowd) Found(*Line)     {}
func (c *crowd) Changed(*Line)   {}
func (c *crowd) Contested(*Line) {}

// got gives slots to those who wait, and back what nobody needs.
func (c *crowd) got(lines ...*Line) {
	for len(lines) > 0 {
		l := lines[0]
		lines = lines[1:]
		c.mu.Lock()
		needed := c.want > 0
		if needed {
			c.want--
			lines = append(lines, c.g.Want("app", "main", c.want, time.Now())...)
		}
		c.mu.Unlock()
		if needed {
			c.slots <- l
		} else {
			lines = append(lines, l.Release()...)
		}
	}
}

func newCrowd(g *Gatekeeper, rs *replicas, keeper string) *crowd {
	c := &crowd{g: g, slots: make(chan *Line, 10_000)}
	for id := range rs.present {
		l, _ := g.Open(Replica{ID: id, Application: "app", Deployment: "main", Address: "127.0.0.1:1", Limit: rs.limit}, keeper, 0, c)
		c.lines = append(c.lines, l)
	}
	return c
}

// serve serves requests one after the other, by slots that are offered.
func (c *crowd) serve(rs *replicas, requests int) {
	for range requests {
		c.mu.Lock()
		c.want++
		granted := c.g.Want("app", "main", c.want, time.Now())
		c.mu.Unlock()
		c.got(granted...)
		l := <-c.slots
		rs.enter(l.Replica().ID)
		rs.leave(l.Replica().ID)
		c.got(l.Release()...)
	}
}

type keeping struct {
	g       *Gatekeeper
	address string
	done    chan error
}

func testConfig(name string) Config {
	return Config{Name: name, Incarnation: time.Now().UnixNano(), Retry: 5 * time.Millisecond, Recovery: 100 * time.Millisecond}
}

func keep(t *testing.T, config Config, address string) *keeping {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeping{g: New(config, hclog.NewNullLogger()), address: l.Addr().String(), done: make(chan error, 1)}
	k.g.mu.Lock()
	k.g.own = k.address // so that lines opened at once are its own
	k.g.mu.Unlock()
	go func() { k.done <- k.g.Keep(l, k.address) }()
	return k
}

func (k *keeping) close(t *testing.T) {
	t.Helper()
	k.g.Close()
	if err := <-k.done; err != nil {
		t.Error(err)
	}
}

// TestManyProxiesOneLimit has three proxies fight over few slots: no replica ever
// has more than its limit, and every request is served.
func TestManyProxiesOneLimit(t *testing.T) {
	for _, limit := range []int{1, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			k := keep(t, testConfig("keeper"), "127.0.0.1:0")
			defer k.close(t)
			rs := newReplicas(3, limit)
			crowds := []*crowd{newCrowd(k.g, rs, k.address)}
			for i := range 2 {
				g := New(testConfig(fmt.Sprintf("other%d", i)), hclog.NewNullLogger())
				defer g.Close()
				crowds = append(crowds, newCrowd(g, rs, k.address))
			}
			var all sync.WaitGroup
			const clients, each = 8, 50
			for _, c := range crowds {
				for range clients {
					all.Go(func() { c.serve(rs, each) })
				}
			}
			all.Wait()
			if got := rs.served.Load(); got != int64(len(crowds)*clients*each) {
				t.Errorf("%d requests served, want %d", got, len(crowds)*clients*each)
			}
			if got := rs.most.Load(); got > int64(limit) {
				t.Errorf("a replica had %d requests at once, its limit is %d", got, limit)
			}
		})
	}
}

// Connection is one, as sockets shows it.
type Connection struct {
	Peer net.IP
	Left bool
}

// sockets shows these connections to every address.
type sockets struct {
	mu   sync.Mutex
	list []Connection // nil: nothing is to be seen
}

func (s *sockets) set(list []Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

func (s *sockets) look() (Seen, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return seen(s.list), nil
}

type seen []Connection

// EachTo gives the connections one port after the other, from 1001 on.
func (s seen) EachTo(_ string, visit func(from netip.AddrPort, left bool)) bool {
	for i, c := range s {
		from, _ := netip.AddrFromSlice(c.Peer.To4())
		visit(netip.AddrPortFrom(from, uint16(1001+i)), c.Left)
	}
	return s != nil
}

// events is a hearer that passes on what it hears.
type events chan string

func (e events) Granted(*Line)   { e <- "granted" }
func (e events) Offered(*Line)   { e <- "offered" }
func (e events) Refused(*Line)   { e <- "refused" }
func (e events) Lost(*Line)      { e <- "lost" }
func (e events) Found(*Line)     { e <- "found" }
func (e events) Changed(*Line)   {}
func (e events) Contested(*Line) {}

func (e events) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-e:
		if got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("heard nothing, want %q", want)
	}
}

// askOf has a slot be asked for, and expects it.
func askOf(t *testing.T, l *Line, heard events) {
	t.Helper()
	if !l.Ask() {
		t.Fatal("cannot ask")
	}
	heard.expect(t, "granted")
}

func one(limit int) Replica {
	return Replica{ID: "r", Application: "app", Deployment: "main", Address: "127.0.0.1:1", Limit: limit}
}

// client is a proxy with one line at a gatekeeper, which it can ask.
func client(t *testing.T, name, keeper string) (*Gatekeeper, *Line, events) {
	t.Helper()
	g, heard := New(testConfig(name), hclog.NewNullLogger()), make(events, 100)
	l, _ := g.Open(one(1), keeper, 0, heard)
	heard.expect(t, "found")
	return g, l, heard
}

// vanish ends a proxy as a kill does: without a goodbye.
func vanish(g *Gatekeeper) {
	g.cancel()
	g.mu.Lock()
	for _, l := range g.links {
		l.ready = false // so that nothing more is said
		l.finish()
	}
	g.mu.Unlock()
	g.work.Wait()
}

func TestSlotsOfAProxyThatVanishedWaitForItsRequests(t *testing.T) {
	seen := &sockets{list: []Connection{}}
	config := testConfig("keeper")
	config.Look = seen.look
	k := keep(t, config, "127.0.0.1:0")
	defer k.close(t)
	dying, line, heard := client(t, "dying", k.address)
	askOf(t, line, heard)
	loopback := net.IPv4(127, 0, 0, 1)
	seen.set([]Connection{{Peer: loopback, Left: true}})
	vanish(dying)

	other, line, heard := client(t, "other", k.address)
	defer other.Close()
	for range 3 {
		line.Ask()
		heard.expect(t, "refused")
	}
	other.Want("app", "main", 1, time.Now())
	k.g.look(time.Now())
	select {
	case got := <-heard:
		t.Fatalf("heard %q while the replica has not finished", got)
	default:
	}
	seen.set([]Connection{})
	heard.expect(t, "offered")
}

func TestSlotsThatNobodyCanSeeWaitForPatience(t *testing.T) {
	config := testConfig("keeper")
	config.Patience = 300 * time.Millisecond
	seen := &sockets{list: []Connection{}}
	config.Look = seen.look
	k := keep(t, config, "127.0.0.1:0")
	defer k.close(t)
	dying, line, heard := client(t, "dying", k.address)
	askOf(t, line, heard)
	seen.set(nil)
	began := time.Now()
	vanish(dying)
	other, _, heard := client(t, "other", k.address)
	defer other.Close()
	other.Want("app", "main", 1, time.Now())
	heard.expect(t, "offered")
	if d := time.Since(began); d < config.Patience {
		t.Errorf("its slot was free after %s, want %s", d, config.Patience)
	}
}

func TestANewGatekeeperHearsWhatIsHeld(t *testing.T) {
	for _, way := range []string{"killed", "upgraded"} {
		t.Run(way, func(t *testing.T) {
			seen := &sockets{list: []Connection{}}
			config := testConfig("keeper")
			config.Look = seen.look
			first := keep(t, config, "127.0.0.1:0")
			holder, line, heard := client(t, "holder", first.address)
			defer holder.Close()
			askOf(t, line, heard)
			seen.set([]Connection{{Peer: net.IPv4(127, 0, 0, 1)}})
			var state []byte
			if way == "upgraded" {
				state = first.g.Yield()
			}
			first.close(t)
			heard.expect(t, "lost")

			config = testConfig("keeper")
			config.Look = seen.look
			second := &keeping{g: New(config, hclog.NewNullLogger()), address: first.address, done: make(chan error, 1)}
			if err := second.g.Inherit(state); err != nil {
				t.Fatal(err)
			}
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", first.address)
			if err != nil {
				t.Fatal(err)
			}
			go func() { second.done <- second.g.Keep(l, second.address) }()
			defer second.close(t)
			heard.expect(t, "found")
			other, line2, heard2 := client(t, "other", second.address)
			defer other.Close()
			line2.Ask()
			heard2.expect(t, "refused")
			seen.set([]Connection{})
			line.Release()
			other.Want("app", "main", 1, time.Now())
			heard2.expect(t, "offered")
		})
	}
}

func TestAProxyThatComesBackHasNoMoreThanItHolds(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	holder, line, heard := client(t, "holder", k.address)
	defer holder.Close()
	line.Ask()
	heard.expect(t, "granted")
	k.g.mu.Lock()
	for c := range k.g.clerks {
		c.end()
	}
	k.g.mu.Unlock()
	heard.expect(t, "lost")
	heard.expect(t, "found")
	other, _, heard2 := client(t, "other", k.address)
	defer other.Close()
	other.Want("app", "main", 1, time.Now())
	line.Release()
	heard2.expect(t, "offered")
}

// TestNonsenseIsSentAway says all sorts of things to a gatekeeper, which serves
// the others as before.
func TestNonsenseIsSentAway(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	hello := appendMessage(nil, message{kind: kindHello, texts: [4]string{"x"}, numbers: [4]uint64{protocolVersion, 1}})
	say := func(m message) []byte { return appendMessage(append([]byte(nil), hello...), m) }
	for name, said := range map[string][]byte{
		"HTTP":                     []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"another version":          appendMessage(nil, message{kind: kindHello, texts: [4]string{"x"}, numbers: [4]uint64{99}}),
		"no hello":                 appendMessage(nil, message{kind: kindAsk, numbers: [4]uint64{1}}),
		"a line that is not open":  say(message{kind: kindAsk, numbers: [4]uint64{1}}),
		"a release of nothing":     say(message{kind: kindRelease, numbers: [4]uint64{1}}),
		"a long string":            append(append([]byte(nil), hello...), byte(kindOpen), 0xff, 0xff, 0xff, 0xff, 0x0f),
		"a number without an end":  append(append([]byte(nil), hello...), append([]byte{byte(kindAsk)}, bytes.Repeat([]byte{0xff}, 20)...)...),
		"a replica without a name": say(message{kind: kindOpen, numbers: [4]uint64{1, 1, 0}}),
		"what a gatekeeper says":   say(message{kind: kindGranted, numbers: [4]uint64{1, 1}}),
		"half a message":           append(append([]byte(nil), hello...), byte(kindOpen), 3, 'a'),
		"an unknown kind":          append(append([]byte(nil), hello...), 200),
	} {
		nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", k.address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = nc.Write(said); err == nil {
			err = nc.(*net.TCPConn).CloseWrite()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err = nc.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		_ = nc.Close()
	}
	g, line, heard := client(t, "sane", k.address)
	defer g.Close()
	line.Ask()
	heard.expect(t, "granted")
}

// TestHugeNumbers has a proxy claim more than there can be: the others' replicas
// are not touched by it.
func TestHugeNumbers(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", k.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	b := appendMessage(nil, message{kind: kindHello, texts: [4]string{"greedy"}, numbers: [4]uint64{protocolVersion, math.MaxUint64}})
	b = appendMessage(b, message{kind: kindOpen, texts: [4]string{"its", "app", "main", "x"}, numbers: [4]uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64}})
	b = appendMessage(b, message{kind: kindWant, texts: [4]string{"app", "main"}, numbers: [4]uint64{math.MaxUint64, math.MaxUint64}})
	if _, err = nc.Write(b); err != nil {
		t.Fatal(err)
	}
	g, line, heard := client(t, "sane", k.address)
	defer g.Close()
	line.Ask()
	heard.expect(t, "granted")
}

func FuzzMessages(f *testing.F) {
	f.Add(appendMessage(nil, message{kind: kindOpen, texts: [4]string{"r", "a", "d", "127.0.0.1:1"}, numbers: [4]uint64{1, 2, 3}}))
	f.Add([]byte{byte(kindAsk), 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := readMessage(bufio.NewReader(bytes.NewReader(appendMessage(nil, m))))
		if err != nil || again != m {
			t.Errorf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}
