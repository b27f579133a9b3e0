package consulsd

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// source is Consul as a Watcher asks it; Client is the one that is real.
type source interface {
	routeEntries(ctx context.Context, index uint64, wait time.Duration) ([]storedEntry, uint64, error)
	instances(ctx context.Context, service string, index uint64, wait time.Duration) ([]instance, uint64, error)
}

// Watcher keeps the routing table, and the replicas of every service that it
// names, as Consul last said them: one blocking query for the table and one
// for each service. The last good state is kept while Consul does not answer.
type Watcher struct {
	source     source
	log        hclog.Logger
	maxQueries int
	// How the gatekeepers are asked for; nil: they are not.
	gatekeepers func(ctx context.Context, index uint64, wait time.Duration) ([]routes.Gatekeeper, uint64, error)
	keeper      *keeper // nil: nothing is kept on disk
	unread      string  // the error when Consul has not answered for a while, or has failed
	view        atomic.Pointer[routes.View]
	answered    atomic.Pointer[time.Time] // nil: never
	changed     atomic.Pointer[time.Time] // nil: never
	updates     chan struct{}

	mu          sync.Mutex
	subscribers map[chan struct{}]bool // guarded by mu
}

// NewWatcher returns a Watcher. Run makes it watch.
func NewWatcher(client *Client) *Watcher {
	return newWatcher(client, client.maxQueries, client.log, fmt.Sprintf("the Consul at %s has not answered yet", client.address))
}

func newWatcher(source source, maxQueries int, log hclog.Logger, unread string) *Watcher {
	w := &Watcher{
		source:      source,
		log:         log,
		maxQueries:  maxQueries,
		unread:      unread,
		updates:     make(chan struct{}, 1),
		subscribers: map[chan struct{}]bool{},
	}
	w.view.Store(&routes.View{}) // that Consul has not answered yet is no fault at first
	return w
}

// View returns what was last seen. It is never changed once it is returned.
func (w *Watcher) View() routes.View { return *w.view.Load() }

// Updates ticks when View has changed since the tick before. It is for one
// consumer; Subscribe serves more.
func (w *Watcher) Updates() <-chan struct{} { return w.updates }

// Subscribe returns a channel like that of Updates, and what ends it. The
// first tick is there at once, so that no change falls between.
func (w *Watcher) Subscribe() (updates <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	tick(c)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subscribers[c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subscribers, c)
	}
}

func (w *Watcher) publish(view *routes.View) {
	before, said := w.view.Swap(view), *view
	said.Error = before.Error // which says nothing of what there is
	if !same(before, &said) {
		now := time.Now()
		w.changed.Store(&now)
	}
	tick(w.updates)
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subscribers {
		tick(c)
	}
}

func tick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	r := &run{
		Watcher:  w,
		table:    newTable(),
		services: map[string]*service{},
		changes:  make(chan func(now time.Time)),
		slots:    make(chan struct{}, w.maxQueries),
	}
	defer r.polls.Wait()
	defer cancel()
	r.startKeeping(ctx, &r.polls)
	r.start(ctx)
	r.recall(ctx)
	r.loop(ctx)
}

// run is one Run of a Watcher. Its loop alone touches what follows slots;
// the polls send it what is to be done with their answers.
type run struct {
	*Watcher
	polls   sync.WaitGroup
	changes chan func(now time.Time)
	slots   chan struct{} // taken by the queries for services

	crowded   atomic.Bool // there are more services than slots
	table     *table
	tablePoll *poll[[]storedEntry]
	tableErr  error
	read      bool // the table has been read once
	silent    bool // Consul has had its time to answer first
	services  map[string]*service
	keepers   *gatekeepers // nil: nobody wants to know
	recalled  *saved       // what lay on disk; nil: nothing
	known     bool
	failing   bool // as logged
}

func (r *run) start(ctx context.Context) {
	r.tablePoll = &poll[[]storedEntry]{
		ask: func(ctx context.Context, index uint64) ([]storedEntry, uint64, error) {
			return r.source.routeEntries(ctx, index, jitter(routesWait))
		},
		report: func(ctx context.Context, o outcome[[]storedEntry]) {
			r.send(ctx, func(now time.Time) { r.tableOutcome(ctx, o, now) })
		},
		kicked: make(chan struct{}, 1),
	}
	r.polls.Go(func() { r.tablePoll.run(ctx) })
	r.startGatekeepers(ctx)
}

func (r *run) send(ctx context.Context, change func(now time.Time)) {
	select {
	case r.changes <- change:
	case <-ctx.Done():
	}
}

// loop takes in what the polls send, a burst at a time, and publishes.
func (r *run) loop(ctx context.Context) {
	expiry := time.NewTicker(time.Second)
	defer expiry.Stop()
	silence := time.NewTimer(recallAfter)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case change := <-r.changes:
			change(time.Now())
			r.drain()
		case now := <-expiry.C:
			if !r.expire(ctx, now) {
				continue
			}
		case <-silence.C:
			r.silent = true
			r.remember()
		}
		r.refresh()
	}
}

func (r *run) drain() {
	for {
		select {
		case change := <-r.changes:
			change(time.Now())
		default:
			return
		}
	}
}

// tableOutcome takes in what came of asking for the table. ctx is that of Run.
func (r *run) tableOutcome(ctx context.Context, o outcome[[]storedEntry], now time.Time) {
	if r.tableErr = o.err; o.err != nil {
		r.remember()
		return
	}
	r.answered.Store(&now)
	lost := o.lost || (o.again && len(o.value) == 0)
	if lost {
		for _, s := range r.services {
			s.hold(now)
		}
	}
	r.read = true
	for _, note := range r.table.read(o.value, lost, now) {
		r.log.Warn("route entry not as expected", "reason", note)
	}
	r.follow(ctx)
	if o.lost || o.again {
		r.kickServices()
	}
}

func (r *run) kickServices() {
	if r.keepers != nil {
		r.keepers.poll.kick()
	}
	for _, s := range r.services {
		s.poll.kick()
	}
}

// follow watches the services that the table names, and no others.
func (r *run) follow(ctx context.Context) {
	named := r.table.services()
	for name, s := range r.services {
		if named[name] == nil {
			s.cancel()
			delete(r.services, name)
		}
	}
	crowded := len(named) > r.maxQueries
	if crowded != r.crowded.Swap(crowded) && crowded {
		r.kickServices() // those that wait for long give their slot to others
		r.log.Warn("more services than blocking queries, so that changes are seen later; allow more if the Consul agent's limits.http_max_conns_per_client does",
			"services", len(named), "max_queries", r.maxQueries)
	}
	for name, owners := range named {
		if s := r.services[name]; s != nil {
			s.owners = owners
			continue
		}
		r.services[name] = r.watch(ctx, name, owners)
	}
}

// watch starts to poll for a service's instances.
func (r *run) watch(ctx context.Context, name string, owners owners) *service {
	ctx, cancel := context.WithCancel(ctx)
	s := &service{owners: owners, cancel: cancel, held: map[string]heldReplica{}, last: r.recalled.replicas(owners)}
	s.poll = &poll[[]instance]{
		ask: func(ctx context.Context, index uint64) ([]instance, uint64, error) {
			select {
			case r.slots <- struct{}{}:
				defer func() { <-r.slots }()
			case <-ctx.Done():
				return nil, 0, ctx.Err()
			}
			wait := serviceWait
			if r.crowded.Load() {
				wait = rotateWait
			}
			return r.source.instances(ctx, name, index, jitter(wait))
		},
		report: func(ctx context.Context, o outcome[[]instance]) {
			r.send(ctx, func(now time.Time) { r.serviceOutcome(s, o, now) })
		},
		kicked: make(chan struct{}, 1),
	}
	r.polls.Go(func() { s.poll.run(ctx) })
	return s
}

func (r *run) serviceOutcome(s *service, o outcome[[]instance], now time.Time) {
	if s.err == nil && (o.err != nil || o.again) {
		// The Consul that the table waits for may be another by now.
		r.tablePoll.kick()
	}
	if o.err != nil {
		s.tried, s.err = true, o.err
		return
	}
	s.read(o.value, o.lost || (o.again && len(o.value) == 0), now)
}

// expire lets go of what was held for long enough, and says whether anything was.
func (r *run) expire(ctx context.Context, now time.Time) bool {
	expired := r.table.expire(now)
	if expired {
		r.log.Warn("routes given up that Consul has lost", "kept_for", holdFor)
		r.follow(ctx)
	}
	for _, s := range r.services {
		expired = s.expire(now) || expired
	}
	return r.keepers.expire(now) || expired
}

// refresh publishes a View of what is known now, if it differs from the last.
func (r *run) refresh() {
	before := r.view.Load()
	r.known = r.known || (r.read && r.allTried())
	next := &routes.View{Known: r.known, Error: r.fault()}
	if !r.read && (r.silent || next.Error != "") {
		next.Error = cmp.Or(next.Error, r.unread) + r.age()
	}
	r.table.fill(next)
	for _, name := range slices.Sorted(maps.Keys(r.services)) {
		endpoints, notes := r.services[name].endpoints()
		for _, note := range notes {
			r.log.Warn("service instance not as expected", "service", name, "reason", note)
		}
		next.Endpoints = append(next.Endpoints, endpoints...)
	}
	slices.SortFunc(next.Endpoints, func(a, b routes.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Application, b.Application), cmp.Compare(a.Deployment, b.Deployment), cmp.Compare(a.Replica, b.Replica))
	})
	if r.keepers != nil {
		next.Gatekeepers = r.keepers.last
	}
	r.logFault(next)
	if !same(before, next) {
		r.publish(next)
		if r.keeper != nil && next.Known && next.Error == "" {
			r.keeper.keep(next)
		}
	}
}

// logFault logs when Consul begins to fail and when it is read again, not each
// failure between.
func (r *run) logFault(view *routes.View) {
	failing := view.Error != ""
	if failing == r.failing {
		return
	}
	r.failing = failing
	if failing {
		r.log.Warn("consul is not read; what was last seen is kept", "error", view.Error)
		return
	}
	r.log.Info("consul is read again", "routes", len(view.Table), "services", len(r.services), "endpoints", len(view.Endpoints))
}

func (r *run) allTried() bool {
	for _, s := range r.services {
		if !s.tried {
			return false
		}
	}
	return r.keepers == nil || r.keepers.tried
}

// fault says in one line why what is shown may be old.
func (r *run) fault() string {
	if r.tableErr != nil {
		return r.tableErr.Error()
	}
	if r.keepers != nil && r.keepers.err != nil {
		return r.keepers.err.Error()
	}
	failing, first := 0, ""
	for _, name := range slices.Sorted(maps.Keys(r.services)) {
		if err := r.services[name].err; err != nil {
			failing++
			first = cmp.Or(first, err.Error())
		}
	}
	switch failing {
	case 0:
		return ""
	case 1:
		return first
	default:
		return fmt.Sprintf("%d of %d services are not read: %s", failing, len(r.services), first)
	}
}
