package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// Pace of the scaler. It decides for all deployments every tickEvery, and for
// those whose requests wait at once; after either it rests tickRest times as
// long as that took, so that with very many deployments it decides more seldom
// and does not take more than a tenth of a core.
const (
	tickEvery    = 100 * time.Millisecond
	tickRest     = 9
	maxChanges   = 2000 // of one command; the others come with the next tick
	leftOutPause = time.Second
	maxBackoff   = 5 * time.Second
	proxiesEvery = time.Second // between looks for proxies that are silent
)

// loadNoise is by which share a load may be off that is added up from several
// proxies' reports: they come when they come, a few milliseconds of a second.
const loadNoise = 0.001

// ErrNotLeading says that this server does not decide, as it does not lead.
var ErrNotLeading = errors.New("this server does not lead")

// scaler sets the targets of the deployments that scale by themselves, while
// this server leads. What it knows of loads and delays ends with that.
type scaler struct {
	c    *Controller
	wake chan struct{} // of capacity 1: requests wait somewhere

	mu       sync.Mutex
	ledger   *autoscale.Ledger // nil: this server does not lead
	urgent   map[loads.Key]bool
	fleet    *fleet
	readings *readings
	service  *service

	// The loop's own.
	backoff   time.Duration   // after a command that could not be committed
	notBefore time.Time       // no command before
	checked   time.Time       // when proxies were looked at
	silent    map[string]bool // proxies, as told
	twins     map[string]bool // proxies that share a name, as told
}

func newScaler(c *Controller) *scaler { return &scaler{c: c, wake: make(chan struct{}, 1)} }

// TakeLoads enters what a proxy reports. An error says why it was refused:
// ErrNotLeading, or what is wrong with the report.
func (c *Controller) TakeLoads(r loads.Report) error { return c.scaler.take(r) }

func (s *scaler) take(r loads.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger == nil {
		return ErrNotLeading
	}
	now := s.c.cfg.Now()
	if err := s.ledger.Take(now, r); err != nil {
		s.service.ledger.Refuse(now)
		return err
	}
	s.service.ledger.Take(now, &r)
	for i := range r.Deployments {
		if d := &r.Deployments[i]; d.Queued > 0 && s.fleet.members[d.Key()] != nil {
			s.urgent[d.Key()] = true
		}
	}
	if len(s.urgent) > 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// run decides until ctx ends, which is when this server no longer leads.
func (s *scaler) run(ctx context.Context) {
	s.begin(ctx)
	defer s.end()
	timer := time.NewTimer(tickEvery)
	defer timer.Stop()
	var rested time.Time // from when on it may be hurried
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			if !sleep(ctx, time.Until(rested)) {
				return
			}
			rested = time.Now().Add(tickRest * s.tick(ctx, true))
		case <-timer.C:
			took := s.tick(ctx, false)
			timer.Reset(max(tickEvery, tickRest*took))
		}
	}
}

// begin starts with nothing known.
func (s *scaler) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger = autoscale.NewLedger(s.c.cfg.Now())
	s.urgent = map[loads.Key]bool{}
	s.fleet = newFleet(s.c.log)
	s.readings = newReadings(ctx, s)
	s.service = newService(s.c.cfg.Now())
	s.backoff, s.notBefore, s.checked, s.silent = 0, time.Time{}, time.Time{}, map[string]bool{}
	s.twins = map[string]bool{}
	s.look() // before the first report, or nothing of it would be kept
}

func (s *scaler) end() {
	s.mu.Lock()
	readings := s.readings
	s.ledger, s.readings, s.fleet, s.service = nil, nil, nil, nil
	s.mu.Unlock()
	readings.wait()
}

// look takes in the State and the World as they are. The caller holds s.mu.
func (s *scaler) look() {
	if s.fleet.follow(s.c.cfg.Raft.State()) {
		s.ledger.Follow(s.fleet.windows())
		s.readings.follow(s.fleet.metrics())
	}
	world := s.c.view.current().World
	s.fleet.see(world, s.c.cfg.Now())
	s.service.follow(s.fleet.state, world)
}

// change is a target that is to change.
type change struct {
	member *member
	raftstate.AutoscaleChange
}

// tick decides, for those whose requests wait or for all, and has what is to
// change recorded. It returns how long deciding took.
func (s *scaler) tick(ctx context.Context, urgent bool) time.Duration {
	began := time.Now()
	changes := s.decide(urgent)
	took := time.Since(began)
	if !urgent {
		s.watchProxies()
	}
	if len(changes) > 0 && !time.Now().Before(s.notBefore) {
		s.propose(ctx, changes)
	}
	return took
}

// decide returns what is to change. Of a deployment whose target does not
// change the state is kept at once, of the others when the State shows the
// change: until then each tick finds the delay over again.
func (s *scaler) decide(urgent bool) []change {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	list := s.fleet.order
	if urgent {
		list = s.fleet.pick(s.urgent)
	}
	clear(s.urgent)
	if s.fleet.world == nil {
		return nil // nothing has been seen yet
	}
	var changes []change
	now, holds := s.c.cfg.Now(), map[time.Duration]string{}
	for _, m := range list {
		if !m.scales() {
			continue
		}
		m.recall()
		d, next := m.policy.Decide(s.input(m, now, holds), m.state)
		switch {
		case d.Target == m.target:
			m.state = next
		case len(changes) < maxChanges && !now.Before(m.notBefore):
			m.asked = &asked{m.target, d.Target, next}
			changes = append(changes, change{m, raftstate.AutoscaleChange{
				Application: m.key.Application, Deployment: m.key.Deployment,
				Version: m.newest, From: m.target, To: d.Target, Reason: d.Reason,
			}})
		}
	}
	return changes
}

// input is what a decision is made from. holds remembers what the ledger says
// of a window: many deployments have the same.
func (s *scaler) input(m *member, now time.Time, holds map[time.Duration]string) autoscale.Input {
	hold := s.fleet.hold()
	if hold == "" && !m.byMetricAlone() {
		window := m.policy.HoldWindow()
		text, known := holds[window]
		if !known {
			text = s.ledger.Hold(now, window)
			holds[window] = text
		}
		hold = text
	}
	in := autoscale.Input{
		Now: now, Running: m.running, Target: m.target, Load: s.ledger.Series(now, m.key),
		Noise: loadNoise, StartTime: m.starts.Typical(), Hold: hold,
	}
	if m.block.Forecast != nil {
		// What a forecast is to be ahead of: also of a node, if one is needed.
		in.StartTime += nodescale.StartTime(s.fleet.state.WorkerGroups[m.workerGroup])
	}
	if m.block.Metric != nil {
		in.Metric = s.readings.last(m.key)
	}
	return in
}

// propose records changes, all in one command, and returns when this server's
// State has them: the next tick must not decide on the same State again.
func (s *scaler) propose(ctx context.Context, changes []change) {
	command := raftstate.Autoscale{}
	for i := range changes {
		command.Changes = append(command.Changes, changes[i].AutoscaleChange)
	}
	limited, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	// No id: it is never sent again, each change is made from what the target
	// was, and a receipt would push out one that a person's client may need.
	result, err := s.c.cfg.Raft.Propose(limited, raftstate.Command{
		At: s.c.cfg.Now().UTC(), By: raftstate.ByAutoscaler, Autoscale: &command,
	})
	if err == nil {
		err = errors.Join(result.Err(), s.c.applied(limited, result.Index))
	}
	if err != nil {
		if s.backoff == 0 && ctx.Err() == nil {
			s.c.log.Warn("targets not recorded; it is tried again", "changes", len(changes), "error", err)
		}
		s.backoff = min(max(2*s.backoff, tickEvery), maxBackoff)
		s.notBefore = time.Now().Add(s.backoff)
		return
	}
	s.backoff = 0
	s.settle(changes)
}

// settle tells of the changes that were made. One that was left out, because the
// target or the spec is another by now, is decided anew.
func (s *scaler) settle(changes []change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.c.cfg.Raft.State()
	for _, c := range changes {
		app := state.Applications[c.Application]
		if app != nil && app.Target(c.Deployment) == c.To {
			s.c.log.Info("target set", "application", c.Application, "deployment", c.Deployment,
				"from", c.From, "to", c.To, "reason", c.Reason)
			continue
		}
		c.member.notBefore = s.c.cfg.Now().Add(leftOutPause)
	}
}

// watchProxies tells of proxies that fall silent, of those that are back, and of
// those that share a name.
func (s *scaler) watchProxies() {
	now := s.c.cfg.Now()
	if now.Sub(s.checked) < proxiesEvery {
		return
	}
	s.checked = now
	s.mu.Lock()
	list := s.ledger.Proxies(now)
	s.mu.Unlock()
	var events []raftstate.Event
	add := func(kind, message string) {
		events = append(events, raftstate.Event{At: now.UTC(), Type: kind, Message: message})
	}
	listed := map[string]bool{}
	for _, p := range list {
		listed[p.Proxy] = true
		if p.Twin && !s.twins[p.Proxy] {
			s.twins[p.Proxy] = true
			add("proxy-name-taken", fmt.Sprintf("another proxy has the name of proxy %s: give each a name of its own; until then both are counted", p.Proxy))
		}
		switch {
		case p.Silent && !s.silent[p.Proxy]:
			s.silent[p.Proxy] = true
			add("proxy-silent", fmt.Sprintf("proxy %s has not reported its load for %s: what goes by requests is not scaled down", p.Proxy, p.Age.Round(time.Second)))
		case !p.Silent && s.silent[p.Proxy]:
			delete(s.silent, p.Proxy)
			add("proxy-back", fmt.Sprintf("proxy %s reports its load again", p.Proxy))
		}
	}
	maps.DeleteFunc(s.twins, func(name string, _ bool) bool { return !listed[name] })
	for name := range s.silent {
		if !listed[name] {
			delete(s.silent, name)
			add("proxy-gone", fmt.Sprintf("proxy %s is not waited for any more", name))
		}
	}
	s.c.observed(events...)
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
