package gate

import (
	"context"
	"errors"
	"time"

	"github.com/serve-nomad/serve-nomad/health"
	"github.com/serve-nomad/serve-nomad/routes"
)

// Pace of the questions to replicas that Consul does not yet call passing. They
// are asked while requests wait, so that the first request goes out as soon as
// a replica can answer, not at Consul's next check.
const (
	probeFirst   = 20 * time.Millisecond  // between the first question and the second
	probeMost    = 60 * time.Millisecond  // between later ones: half of it is what a request waits longer than it must
	probeSlow    = 250 * time.Millisecond // between those after probeSlowFrom: it loads something large
	probeAgain   = time.Second            // between questions to a replica that has answered
	probeMisses  = 3                      // answers too late in a row that end what an answer in time began; jobspec's check does the same
	probeEach    = time.Millisecond       // of a gap for each replica that is asked, so that very many are asked no more often than some
	probesAtOnce = 32                     // questions of one gate under way at once: replicas that hang must not hide one that serves

	probeSlowFrom = 30 * time.Second
)

// agreement is how long a replica may take requests on the strength of its
// answers to this proxy alone, on top of two periods of its check. Consul asks
// for the same, so that it agrees at its next check. Where it does not, it
// knows something that this proxy does not, and it is right.
const agreement = 30 * time.Second

// probe is what the proxy's own questions have shown of one replica that has
// not passed in Consul since it was listed. The gate's mutex guards it.
type probe struct {
	asking  bool
	due     time.Time // of the next question; zero: at once
	gap     time.Duration
	begun   time.Time // when it was asked first
	live    bool      // it has answered: requests may be sent to it
	since   time.Time // from when Consul's agreement is waited for
	misses  int       // answers too late in a row, while live
	refuted bool      // Consul did not agree in time: it is not asked any more
}

func (p *probe) isLive() bool { return p != nil && p.live }

func (p *probe) isOpen() bool { return p != nil && !p.refuted }

// answered takes in that the replica said that it can serve.
func (p *probe) answered(now time.Time) {
	if !p.live {
		p.live, p.since = true, now
	}
	p.misses, p.due = 0, now.Add(probeAgain)
}

// failed takes in that it did not. A replica at work may be late now and then;
// one that refuses, or answers anything else, cannot serve. asked is how many
// replicas are asked.
func (p *probe) failed(now time.Time, late bool, asked int) {
	if p.live && late && p.misses+1 < probeMisses {
		p.misses++
		p.due = now.Add(probeAgain)
		return
	}
	if p.live {
		p.end()
	}
	most := max(probeMost, time.Duration(asked)*probeEach)
	if now.Sub(p.begun) >= probeSlowFrom {
		most = max(most, probeSlow)
	}
	if p.gap *= 13; p.gap == 0 {
		p.gap = probeFirst * 10
	}
	p.gap = min(p.gap/10, most)
	p.due = now.Add(p.gap)
}

// end takes the replica's word no longer.
func (p *probe) end() { p.live, p.misses, p.gap = false, 0, 0 }

// meetProbe brings the probe in line with what Consul says now. Whoever has
// passed there is Consul's to judge, and so is whoever fails for another reason
// than its own health check, such as its node.
func (r *Replica) meetProbe(e routes.Endpoint, asked bool) {
	if !r.known {
		r.passed, r.probe = false, nil
	}
	r.passed = r.passed || e.Passing
	switch {
	case r.passed || !e.Unproven || !asked:
		r.probe = nil
	case r.probe == nil || r.address != e.Address:
		r.probe = &probe{}
	}
}

// probes is what a gate needs to ask its replicas. The gate's mutex guards it.
type probes struct {
	check    health.Check
	patience time.Duration
	blind    bool // Consul is not read: its agreement cannot be waited for
	open     int  // replicas to be asked while requests wait
	live     int  // those of them that have answered
	asking   int
	running  bool          // there is a goroutine that asks
	wake     chan struct{} // of capacity 1: has it look again
}

// follow takes over what the table says of the health check.
func (p *probes) follow(d routes.Deployment) {
	p.check = health.CheckOf(d)
	p.patience = agreement + 2*min(max(d.HealthPeriod, 0), time.Hour)
}

// asks says whether replicas are asked at all.
func (p *probes) asks() bool { return p.check != health.Check{} }

// ConsulRead says whether Consul is read at the moment. While it is not, nobody
// can agree with what a replica says of itself.
func (g *Gate) ConsulRead(ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probes.blind && ok {
		now := time.Now()
		for _, r := range g.replicas {
			if r.probe.isLive() {
				r.probe.since = now
			}
		}
	}
	g.probes.blind = !ok
}

// probeForWaiters begins to ask, when a request has begun to wait.
func (g *Gate) probeForWaiters() {
	if g.probes.open > 0 && (!g.probes.running || g.queue.Len() == 1) {
		g.keepProbing()
	}
}

// keepProbing sees to it that whoever is to be asked is asked. The caller holds
// the gate's mutex.
func (g *Gate) keepProbing() {
	p := &g.probes
	switch {
	case g.prober == nil:
	case p.running:
		select {
		case p.wake <- struct{}{}:
		default:
		}
	case p.live > 0 || (p.open > 0 && g.queue.Len() > 0):
		p.running = g.prober.Start(g.probeLoop)
	}
}

// probeLoop asks until nobody is to be asked any more.
func (g *Gate) probeLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	prober := g.prober
	for {
		wait, more := g.probeWait(time.Now())
		if !more {
			return
		}
		if wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			case <-g.probes.wake:
			}
			continue
		}
		if !prober.Enter(ctx) {
			return
		}
		q, ok := g.nextQuestion(time.Now())
		if !ok || !prober.Start(func(ctx context.Context) {
			defer prober.Exit()
			g.judge(q, prober.Ask(ctx, q.address, q.check))
		}) {
			prober.Exit()
		}
	}
}

// probeWait says how long nobody is to be asked, and false when nobody is to be
// asked at all: then the loop has ended.
func (g *Gate) probeWait(now time.Time) (wait time.Duration, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refute(now)
	wait = time.Hour // until something happens
	for _, r := range g.replicas {
		if !g.wants(r) {
			continue
		}
		more = true
		g.spare(r, now)
		if !r.probe.asking && g.probes.asking < probesAtOnce {
			wait = min(wait, max(r.probe.due.Sub(now), 0))
		}
	}
	g.probes.running = more
	return wait, more
}

// wants says whether r is to be asked now or later.
func (g *Gate) wants(r *Replica) bool {
	return g.probes.asks() && r.probe.isOpen() && (r.probe.live || g.queue.Len() > 0)
}

// spare puts off the question to a replica that has as many requests as it may
// have: its answer would change nothing, and one that does one thing at a time
// would not come to it.
func (g *Gate) spare(r *Replica, now time.Time) {
	if next := now.Add(probeMost); r.member.InFlight() >= g.limit && r.probe.due.Before(next) {
		r.probe.due = next
	}
}

// refute ends what Consul has had enough time to agree with.
func (g *Gate) refute(now time.Time) {
	if g.probes.blind || g.probes.live == 0 {
		return
	}
	refuted := false
	for _, r := range g.replicas {
		if r.probe.isLive() && now.Sub(r.probe.since) >= g.probes.patience {
			r.probe.end()
			r.probe.refuted, refuted = true, true
			g.log.Warn("a replica answers its health check, and Consul does not say that it passes: nothing is sent to it any more; look at its check in Consul",
				"application", g.Application, "deployment", g.Deployment, "replica", r.ID, "address", r.address)
		}
	}
	if refuted {
		g.relist()
	}
}

// question is one that a replica is asked.
type question struct {
	replica *Replica
	probe   *probe
	address string
	check   health.Check
}

// nextQuestion returns the one that has been due for longest.
func (g *Gate) nextQuestion(now time.Time) (q question, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probes.asking >= probesAtOnce {
		return q, false
	}
	for _, r := range g.replicas {
		if !g.wants(r) || r.probe.asking || r.probe.due.After(now) {
			continue
		}
		if !ok || r.probe.due.Before(q.probe.due) {
			q, ok = question{r, r.probe, r.address, g.probes.check}, true
		}
	}
	if !ok {
		return q, false
	}
	if q.probe.begun.IsZero() {
		q.probe.begun = now
	}
	q.probe.asking = true
	g.probes.asking++
	return q, true
}

// judge takes in what came of a question. Its probe may be over by now, because
// the replica has passed, is gone, or is another's: then it means nothing.
func (g *Gate) judge(q question, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probes.asking--
	q.probe.asking = false
	r := q.replica
	if r.probe == q.probe && q.probe.isOpen() && !errors.Is(err, context.Canceled) {
		was, now := q.probe.live, time.Now()
		if err == nil {
			q.probe.answered(now)
		} else {
			q.probe.failed(now, health.IsLate(err), g.probes.open)
		}
		if was != q.probe.live {
			if err == nil {
				g.set.Reach(r.member, now) // it took a connection
			}
			g.log.Debug("replica asked", "application", g.Application, "deployment", g.Deployment,
				"replica", r.ID, "serves", q.probe.live, "after", now.Sub(q.probe.begun), "error", err)
			g.relist()
			g.dispatch(now)
		}
	}
	g.keepProbing()
}

// distrustProbe ends what a replica's answer began, because a request could not
// reach it. It is asked again.
func (g *Gate) distrustProbe(r *Replica, now time.Time) {
	if !r.probe.isLive() {
		return
	}
	r.probe.end()
	r.probe.due = now.Add(probeFirst)
	g.relist()
	g.keepProbing()
}
