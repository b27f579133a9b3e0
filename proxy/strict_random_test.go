package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gate"
	"github.com/serve-nomad/serve-nomad/gatekeeper"
	"github.com/serve-nomad/serve-nomad/routes"
)

// relay is a TCP relay that a test can cut, as a network does.
type relay struct {
	listener net.Listener
	to       string

	mu     sync.Mutex
	conns  map[net.Conn]bool
	stall  chan struct{} // closed: nothing is held back
	closed bool
	work   sync.WaitGroup
}

func newRelay(tb testing.TB, host, to string) *relay {
	tb.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	y := &relay{listener: l, to: to, conns: map[net.Conn]bool{}, stall: make(chan struct{})}
	close(y.stall)
	y.work.Go(y.run)
	tb.Cleanup(func() {
		_ = l.Close()
		y.mu.Lock()
		y.closed = true
		y.mu.Unlock()
		y.flow()
		y.cut()
		y.work.Wait()
	})
	return y
}

func (y *relay) address() string { return y.listener.Addr().String() }

func (y *relay) run() {
	for {
		from, err := y.listener.Accept()
		if err != nil {
			return
		}
		y.work.Go(func() {
			to, err := net.Dial("tcp", y.to)
			if err != nil {
				_ = from.(*net.TCPConn).SetLinger(0)
				_ = from.Close()
				return
			}
			y.mu.Lock()
			y.conns[from], y.conns[to] = true, true
			closed := y.closed
			y.mu.Unlock()
			if closed {
				y.cut()
			}
			y.work.Go(func() { y.pass(from, to) })
			y.pass(to, from)
		})
	}
}

// pass passes on what one side says, and how it ends: with an end, or broken.
func (y *relay) pass(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		y.mu.Lock()
		stall := y.stall
		y.mu.Unlock()
		<-stall
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				err = werr
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = to.(*net.TCPConn).SetLinger(0)
			}
			_ = to.Close()
			_ = from.Close()
			y.mu.Lock()
			delete(y.conns, from)
			y.mu.Unlock()
			return
		}
	}
}

// cut breaks all connections.
func (y *relay) cut() {
	y.mu.Lock()
	defer y.mu.Unlock()
	for nc := range y.conns {
		_ = nc.(*net.TCPConn).SetLinger(0)
		_ = nc.Close()
	}
}

// hold holds everything back until flow.
func (y *relay) hold() {
	y.mu.Lock()
	defer y.mu.Unlock()
	select {
	case <-y.stall:
		y.stall = make(chan struct{})
	default:
	}
}

func (y *relay) flow() {
	y.mu.Lock()
	defer y.mu.Unlock()
	select {
	case <-y.stall:
	default:
		close(y.stall)
	}
}

// worldReplica is a replica that counts its requests, and does what they ask.
type worldReplica struct {
	endpoint routes.Endpoint
	strict   bool // its host has a gatekeeper of its own
	listed   bool
	present  atomic.Int64
	fails    atomic.Bool
}

// world is several proxies, the gatekeepers of two hosts, and replicas on three.
type world struct {
	t        *testing.T
	random   *rand.Rand
	rigs     []*rig
	clients  []*keeperRig // the proxies' parts
	replicas []*worldReplica
	relays   []*relay // to the gatekeeper of each host
	keepers  []*hostKeeper

	limit, queued  int
	versions       []string // of generation 0 that take requests
	generations    string   // which there are, see route
	weight         int      // of generation 1
	sinks          []*sink
	deleted        bool
	ceiling        atomic.Int64 // no strict replica may have more
	most           atomic.Int64 // beyond it that was seen
	deletedAt      atomic.Int64 // until then it is no wonder that there is no such application
	mayRefuse      atomic.Int64 // until then a full queue is no wonder
	sent, answered atomic.Int64
	slowest        atomic.Int64
}

// hostKeeper is who keeps the book of a host.
type hostKeeper struct {
	own, listen string
	alone       *gatekeeper.Gatekeeper
	keeping     *gatekeeper.Gatekeeper
	listener    net.Listener
	ended       chan struct{}
}

func worldConfig(name string) gatekeeper.Config {
	return gatekeeper.Config{
		Name: name, Incarnation: time.Now().UnixNano(), Look: lookAtSockets,
		Retry: 5 * time.Millisecond, Recovery: 300 * time.Millisecond, Patience: 3 * time.Second, Silence: 400 * time.Millisecond,
	}
}

// keep has g keep the host's book.
func (w *world) keep(k *hostKeeper, g *gatekeeper.Gatekeeper) {
	var l net.Listener
	eventually(w.t, "the gatekeeper's port is free", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", k.listen)
		return err == nil
	})
	ended := make(chan struct{})
	k.keeping, k.listener, k.ended = g, l, ended
	go func() {
		defer close(ended)
		if err := g.Keep(l, k.own); err != nil && !errors.Is(err, net.ErrClosed) {
			w.t.Errorf("keep: %v", err)
		}
	}()
}

// replace has another take over: after a kill, or with the book handed over.
func (w *world) replace(k *hostKeeper, handOver bool) {
	var state []byte
	switch {
	case k.keeping != k.alone: // a proxy's, which goes on as another's client
		state = k.keeping.Yield()
		_ = k.listener.Close()
		<-k.ended
	case handOver:
		state = k.keeping.Yield()
		_ = k.listener.Close()
		<-k.ended
		k.alone.Close()
	default:
		k.alone.Close()
		<-k.ended
	}
	next := gatekeeper.New(worldConfig("alone"), hclog.NewNullLogger())
	if len(state) > 0 {
		if err := next.Inherit(state); err != nil {
			w.t.Error(err)
		}
	}
	k.alone = next
	w.keep(k, next)
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), limit: 2, queued: -1, versions: []string{"v1"}}
	w.ceiling.Store(2)
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Skipf("this machine has no %s: %v", host, err)
		}
		_ = l.Close()
		y := newRelay(t, host, l.Addr().String())
		w.relays = append(w.relays, y)
		w.keepers = append(w.keepers, &hostKeeper{own: y.address(), listen: l.Addr().String()})
	}
	for i, hosts := range [][]int{{1, 1, 2, 2, 3}, {1, 2, 3}, {1, 2}} {
		version := []string{"v1", "v2", "v1-g1"}[i]
		for j, host := range hosts {
			w.addReplica(fmt.Sprint(version, "-", j), version, fmt.Sprint("127.0.0.", host), host < 3)
		}
	}
	for i := range 3 {
		g := gatekeeper.New(worldConfig(fmt.Sprint("p", i)), hclog.NewNullLogger())
		w.clients = append(w.clients, &keeperRig{Gatekeeper: g})
	}
	t.Cleanup(func() {
		for _, k := range w.keepers {
			if k.alone != nil {
				k.alone.Close()
			}
		}
		for _, c := range w.clients {
			c.Close()
		}
		for _, k := range w.keepers {
			<-k.ended
		}
	})
	// A proxy keeps the first host's book, one that is nothing else the other's.
	w.keep(w.keepers[0], w.clients[0].Gatekeeper)
	w.keepers[1].alone = gatekeeper.New(worldConfig("alone"), hclog.NewNullLogger())
	w.keep(w.keepers[1], w.keepers[1].alone)
	for _, c := range w.clients {
		s := &sink{}
		w.sinks = append(w.sinks, s)
		w.rigs = append(w.rigs, start(t, w.view(), withSlots(c), func(config *Config) { config.Name, config.Loads = "p", s }))
	}
	return w
}

func (w *world) addReplica(id, version, host string, strict bool) {
	r := &worldReplica{strict: strict, listed: true}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		w.t.Skipf("this machine has no %s: %v", host, err)
	}
	r.endpoint = endpoint(id, l.Addr().String())
	r.endpoint.Version = version
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) { w.serve(r, rw, req) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	w.t.Cleanup(func() { _ = s.Close(); <-done })
	w.replicas = append(w.replicas, r)
}

// serve is what a replica does: it finishes what it began, whoever has left.
func (w *world) serve(r *worldReplica, rw http.ResponseWriter, req *http.Request) {
	now := r.present.Add(1)
	defer r.present.Add(-1)
	if over := now - w.ceiling.Load(); r.strict && over > 0 {
		for most := w.most.Load(); over > most && !w.most.CompareAndSwap(most, over); most = w.most.Load() {
		}
	}
	_, _ = io.Copy(io.Discard, req.Body)
	takes, _ := time.ParseDuration(req.URL.Query().Get("takes"))
	if r.fails.Load() {
		rw.Header().Set("X-Fails", "1")
		rw.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if req.URL.Query().Get("stream") != "" {
		for range 4 {
			_, _ = rw.Write([]byte("data: x\n\n"))
			_ = http.NewResponseController(rw).Flush()
			time.Sleep(takes / 4) // its work: not a way to wait for anything
		}
		return
	}
	time.Sleep(takes) // its work, as above
	_, _ = rw.Write([]byte("ok"))
}

func (w *world) view() routes.View {
	v := app{ongoing: w.limit, queued: w.queued, timeout: 20 * time.Second}.view()
	v.Table["app"] = w.route(v.Table["app"])
	if w.deleted {
		v.Table = routes.Table{}
	}
	for _, r := range w.replicas {
		if r.listed {
			v.Endpoints = append(v.Endpoints, r.endpoint)
		}
	}
	for _, k := range w.keepers {
		v.Gatekeepers = append(v.Gatekeepers, routes.Gatekeeper{Address: k.own, Passing: true})
	}
	return v
}

// route is the route with the versions and generations that there are.
func (w *world) route(route routes.Route) routes.Route {
	route.Watched = true
	zero := route.Deployments["main"]
	zero.Version, zero.Also = w.versions[0], w.versions[1:]
	one := zero
	one.Version, one.Also = "v1-g1", nil
	route.Deployments = map[string]routes.Deployment{"main": zero}
	switch w.generations {
	case "another comes":
		other := routes.Generation{Number: 1, Weight: w.weight, Ingress: "main", Deployments: map[string]routes.Deployment{"main": one}}
		if w.weight == 0 {
			other.Shadow = 30
		}
		route.Others = []routes.Generation{other}
	case "the old one goes":
		route.Others = []routes.Generation{{Number: 0, Ingress: "main", Deployments: route.Deployments}}
		route.Generation, route.Deployments = 1, map[string]routes.Deployment{"main": one}
	case "the new one alone":
		route.Generation, route.Deployments = 1, map[string]routes.Deployment{"main": one}
	}
	return route
}

// publish has the proxies see the world as it is, not all at once.
func (w *world) publish() {
	v := w.view()
	for _, i := range w.random.Perm(len(w.rigs)) {
		w.rigs[i].discovery.set(v)
	}
}

// client sends requests until ctx ends.
func (w *world) client(ctx context.Context, r *rig, random *rand.Rand) {
	for ctx.Err() == nil {
		w.request(r, random)
		if random.IntN(10) == 0 {
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond) // it thinks
		}
	}
}

func (w *world) request(r *rig, random *rand.Rand) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	takes, query := time.Duration(random.IntN(4))*time.Millisecond, ""
	method, body := http.MethodGet, io.Reader(nil)
	leaves := false
	switch random.IntN(10) {
	case 0:
		takes = time.Duration(random.IntN(200)) * time.Millisecond
	case 1:
		query = "&stream=1"
	case 2:
		leaves = true
		takes = time.Duration(random.IntN(60)) * time.Millisecond
		stop := time.AfterFunc(time.Duration(random.IntN(40))*time.Millisecond, cancel)
		defer stop.Stop()
	case 3:
		method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", random.IntN(50_000)))
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s/app/x?takes=%s%s", r.url, takes, query), body)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.sent.Add(1)
	res, err := r.client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	took := time.Since(began)
	for slowest := w.slowest.Load(); int64(took) > slowest && !w.slowest.CompareAndSwap(slowest, int64(took)); slowest = w.slowest.Load() {
	}
	switch {
	case leaves && ctx.Err() != nil:
		return
	case err != nil:
		w.t.Errorf("after %s: %v", took, err)
	case res.StatusCode == http.StatusOK, res.Header.Get("X-Fails") != "":
		w.answered.Add(1)
		return
	case res.StatusCode == http.StatusNotFound && began.UnixNano() < w.deletedAt.Load():
	case res.Header.Get(errorHeader) == codeQueueFull && began.UnixNano() < w.mayRefuse.Load():
	default:
		w.t.Errorf("after %s: %d %s", took, res.StatusCode, res.Header.Get(errorHeader))
	}
	time.Sleep(5 * time.Millisecond) // as one does who was refused
}

// lower has the limit be lower everywhere before it is checked.
func (w *world) lower(limit int) {
	for _, y := range w.relays {
		y.flow()
	}
	w.limit = limit
	w.publish()
	eventually(w.t, "a lower limit is in force", func() bool {
		for i, r := range w.rigs {
			for _, d := range r.Status().Deployments {
				if d.Version != "" && d.MaxOngoingRequests != limit {
					return false
				}
			}
			for _, asks := range w.clients[i].Status().Asks {
				if !asks.Connected {
					return false
				}
			}
		}
		return true
	})
	time.Sleep(100 * time.Millisecond) // until what was said is heard
	eventually(w.t, "no replica has more than the lower limit", func() bool {
		for _, r := range w.replicas {
			if r.present.Load() > int64(limit) {
				return false
			}
		}
		return true
	})
	w.ceiling.Store(int64(limit))
}

// act does something to the world, and says what.
func (w *world) act() string {
	n := func(most int) int { return w.random.IntN(most) }
	switch r := w.replicas[n(len(w.replicas))]; n(20) {
	case 14, 15:
		w.versions = [][]string{{"v1"}, {"v2", "v1"}, {"v2"}}[n(3)]
		w.publish()
		return fmt.Sprint("versions ", w.versions)
	case 16, 17, 18, 19:
		w.generations = []string{"", "another comes", "another comes", "the old one goes", "the new one alone"}[n(5)]
		w.weight = []int{0, 1, 50, 100}[n(4)]
		w.publish()
		return fmt.Sprint("generations ", w.generations, w.weight)
	case 0, 1:
		r.listed = n(4) > 0
		w.publish()
		return fmt.Sprint("listed ", r.endpoint.Replica, r.listed)
	case 2:
		r.endpoint.Passing = n(3) > 0
		w.publish()
		return fmt.Sprint("passing ", r.endpoint.Replica, r.endpoint.Passing)
	case 3:
		r.fails.Store(n(4) == 0)
		return fmt.Sprint("fails ", r.endpoint.Replica, r.fails.Load())
	case 4:
		if limit := 1 + n(4); limit > w.limit {
			w.limit = limit
			w.ceiling.Store(int64(limit))
			w.publish()
		} else {
			w.lower(limit)
		}
		return fmt.Sprint("limit ", w.limit)
	case 5:
		w.queued = []int{-1, -1, 0, 3, 20}[n(5)]
		w.mayRefuse.Store(time.Now().Add(time.Hour).UnixNano())
		if w.queued < 0 {
			w.mayRefuse.Store(time.Now().Add(time.Second).UnixNano())
		}
		w.publish()
		return fmt.Sprint("queued ", w.queued)
	case 6:
		w.deletedAt.Store(time.Now().Add(time.Second).UnixNano())
		w.deleted = true
		w.publish()
		time.Sleep(time.Duration(n(20)) * time.Millisecond) // in which it is gone
		w.deletedAt.Store(time.Now().Add(time.Second).UnixNano())
		w.deleted = false
		w.publish()
		return "deleted, and back"
	case 7, 8:
		i := n(len(w.relays))
		w.relays[i].cut()
		return fmt.Sprint("cut ", i)
	case 9:
		i := n(len(w.relays))
		w.relays[i].hold()
		return fmt.Sprint("hold ", i)
	case 10, 11:
		for _, y := range w.relays {
			y.flow()
		}
		return "flow"
	case 12:
		i := n(len(w.keepers))
		w.replace(w.keepers[i], n(2) == 0)
		return fmt.Sprint("replace ", i)
	default:
		k := w.keepers[0] // a proxy takes over where one that is nothing else was
		if k.alone == nil {
			return "nothing"
		}
		c := w.clients[1+n(2)]
		if c.Own() != "" {
			return "nothing"
		}
		state := k.keeping.Yield()
		_ = k.listener.Close()
		<-k.ended
		k.keeping, k.alone = nil, closeAlone(k)
		if err := c.Inherit(state); err != nil {
			w.t.Error(err)
		}
		w.keep(k, c.Gatekeeper)
		return "a proxy takes over"
	}
}

func closeAlone(k *hostKeeper) *gatekeeper.Gatekeeper {
	if k.alone != nil {
		k.alone.Close()
	}
	return nil
}

// heal has all be well again.
func (w *world) heal() {
	for _, y := range w.relays {
		y.flow()
	}
	for _, r := range w.replicas {
		r.fails.Store(false)
		r.listed, r.endpoint.Passing = true, true
	}
	w.queued, w.versions, w.generations, w.weight = -1, []string{"v2", "v1"}, "another comes", 50
	w.mayRefuse.Store(time.Now().Add(time.Second).UnixNano())
	w.publish()
}

// unsettled says what is still counted when no request is under way; "": nothing.
func (w *world) unsettled() string {
	for i, r := range w.rigs {
		for _, d := range r.Status().Deployments {
			if what := unsettled(d); what != "" {
				return fmt.Sprintf("proxy %d: %s", i, what)
			}
		}
		s := w.clients[i].Status()
		if n := w.clients[i].Queued("app", "main") + w.clients[i].Queued("app@1", "main"); n != 0 || s.Missing != 0 {
			return fmt.Sprintf("proxy %d: %d wait elsewhere, %d slots missing", i, n, s.Missing)
		}
		for _, asks := range s.Asks {
			if !asks.Connected {
				return fmt.Sprintf("proxy %d: %s cannot be asked", i, asks.Address)
			}
		}
	}
	for i, k := range w.keepers {
		if s := k.keeping.Status(); s.Missing != 0 {
			return fmt.Sprintf("host %d: %d slots missing", i, s.Missing)
		}
	}
	return ""
}

func unsettled(d gate.Status) string {
	if d.Asked != 0 || d.Queued != 0 {
		return fmt.Sprintf("asked %d, queued %d", d.Asked, d.Queued)
	}
	if want := []int{8, 2}[d.Generation]; len(d.Replicas) != want {
		return fmt.Sprintf("%d replicas of generation %d, want %d", len(d.Replicas), d.Generation, want)
	}
	for _, r := range d.Replicas {
		if r.Spare != 0 || r.Ongoing != 0 || r.Others != 0 || r.Withheld != 0 {
			return fmt.Sprintf("%s: spare %d, ongoing %d, others %d, withheld %d", r.Replica, r.Spare, r.Ongoing, r.Others, r.Withheld)
		}
	}
	return ""
}

// TestStrictLimitsInARandomWorld has several proxies under load while replicas,
// versions and generations come and go, limits change, gatekeepers are replaced and the connections to
// them are cut or stalled. No replica ever has more than its limit, every request
// is answered, and in the end nothing is counted that is not there.
// It goes on for as long as SERVE_NOMAD_RANDOM_WORLD says, such as 10m, which
// `make conformance` does.
func TestStrictLimitsInARandomWorld(t *testing.T) {
	s := os.Getenv("SERVE_NOMAD_RANDOM_WORLD")
	if s == "" {
		t.Skip("only where SERVE_NOMAD_RANDOM_WORLD says for how long")
	}
	lasts, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < lasts && !t.Failed(); {
		seed := uint64(time.Now().UnixNano())
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomWorld(t, seed, min(lasts, 5*time.Second)) })
	}
}

func randomWorld(t *testing.T, seed uint64, lasts time.Duration) {
	t.Helper()
	w := newWorld(t, seed)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for i, r := range w.rigs {
		for j := range 10 {
			random := rand.New(rand.NewPCG(seed, uint64(2+i*100+j)))
			clients.Go(func() { w.client(ctx, r, random) })
		}
	}
	var done []string
	for began := time.Now(); time.Since(began) < lasts; {
		time.Sleep(time.Duration(5+w.random.IntN(120)) * time.Millisecond) // in which the world is as it is
		at := time.Since(began).Round(time.Millisecond)
		done = append(done, fmt.Sprint(at, " ", w.act()))
	}
	w.heal()
	cancel()
	ended := make(chan struct{})
	go func() { clients.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Errorf("requests do not end; %s", w.unsettled())
		<-ended
	}
	what := ""
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if what = w.unsettled(); what == "" {
			break
		}
	}
	if what != "" {
		t.Errorf("in the end: %s", what)
	}
	for _, s := range w.sinks {
		s.mu.Lock()
		if s.refused != nil {
			t.Error(s.refused)
		}
		s.mu.Unlock()
	}
	if most := w.most.Load(); most > 0 {
		t.Errorf("a replica had %d requests more than its limit", most)
	}
	t.Logf("%d requests, %d answered, the slowest in %s", w.sent.Load(), w.answered.Load(), time.Duration(w.slowest.Load()))
	if t.Failed() {
		t.Log(strings.Join(done, "\n"))
	}
}
