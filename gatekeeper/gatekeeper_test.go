package gatekeeper

import (
	"fmt"
	"net"
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

func (c *crowd) Granted(l *Line) { c.slots <- l }
func (c *crowd) Offered(l *Line) { c.slots <- l }
func (c *crowd) Refused(*Line)   {}
func (c *crowd) Lost(*Line)      {}
func (c *crowd) Found(*Line)     {}

func newCrowd(g *Gatekeeper, rs *replicas, keeper string) *crowd {
	c := &crowd{g: g, slots: make(chan *Line, 10_000)}
	for id := range rs.present {
		l, _ := g.Open(Replica{ID: id, Application: "app", Deployment: "main", Address: "127.0.0.1:1", Limit: rs.limit}, keeper, c)
		c.lines = append(c.lines, l)
	}
	return c
}

// serve serves requests one after the other, by slots that are offered.
func (c *crowd) serve(rs *replicas, requests int) {
	since := time.Now()
	for range requests {
		c.mu.Lock()
		c.want++
		granted := c.g.Want("app", "main", c.want, since)
		c.mu.Unlock()
		for _, l := range granted {
			c.slots <- l
		}
		l := <-c.slots
		rs.enter(l.Replica().ID)
		c.mu.Lock()
		c.want--
		granted = c.g.Want("app", "main", c.want, since)
		c.mu.Unlock()
		for _, l := range granted {
			c.slots <- l
		}
		rs.leave(l.Replica().ID)
		for _, l := range l.Release() {
			c.slots <- l
		}
	}
}

// drain gives back what was offered and is not needed.
func (c *crowd) drain() {
	for {
		select {
		case l := <-c.slots:
			for _, l := range l.Release() {
				c.slots <- l
			}
		default:
			return
		}
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

func keep(t *testing.T, name, address string) *keeping {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeping{g: New(testConfig(name), hclog.NewNullLogger()), address: l.Addr().String(), done: make(chan error, 1)}
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
			k := keep(t, "keeper", "127.0.0.1:0")
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
