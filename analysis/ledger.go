package analysis

import (
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

const (
	// reportHolds and silenceMatters are as for the autoscaler's ledger: how long
	// a report holds at least, and how long at least a proxy that is silent is
	// waited for.
	reportHolds    = 10 * time.Second
	silenceMatters = 5 * time.Minute
	// forgetAfter is how long a version is kept that no report names.
	forgetAfter = 10 * time.Minute
	// sweepEvery is how often what is out of date is looked for.
	sweepEvery = 10 * time.Second
)

// Bounds on what is remembered, whatever is reported.
const (
	maxProcesses = 10_000    // of proxies: while there are more, nothing is known to have ended
	maxVersions  = 4096      // further ones are not known
	maxCells     = 4_000_000 // of latency, 8 bytes each: beyond, requests and errors are counted alone
)

// Ledger is how versions served of late, as the proxies report it. It is the
// caller's to guard against use by two at once.
//
// All its times are the leader's own: a report tells of the time before it came.
// They come from now, which is safe from a clock that is set as long as it keeps
// its monotonic reading. A now before one seen earlier counts as that.
type Ledger struct {
	since     time.Time
	latest    int64 // ns after since: the last now
	woke      int64 // ns after since: when it began to listen, the last time
	swept     int64
	doubted   int64 // until then a report that was not taken may have told of requests
	followed  map[string]bool
	processes map[processKey]*process
	newest    map[string]int64 // proxy to the incarnation that began last
	versions  map[loads.Version]*version
	cells     int // of all versions
}

// version is what is known of one deployment version.
type version struct {
	fine, long series
	named      int64 // when a report named it last
	shadow     shadow
}

// NewLedger returns an empty Ledger. since is when this server began to listen.
func NewLedger(since time.Time) *Ledger {
	return &Ledger{
		since: since, doubted: -1, followed: map[string]bool{}, newest: map[string]int64{},
		processes: map[processKey]*process{}, versions: map[loads.Version]*version{},
	}
}

// Follow says of which applications to keep how they are served. What is no
// longer followed is forgotten.
func (l *Ledger) Follow(applications map[string]bool) {
	for name := range l.followed {
		if !applications[name] {
			l.forget(name)
		}
	}
	for name, is := range applications {
		if is {
			l.followed[name] = true
		}
	}
}

func (l *Ledger) forget(application string) {
	delete(l.followed, application)
	for key, v := range l.versions {
		if key.Application == application {
			l.drop(key, v)
		}
	}
	for _, p := range l.processes {
		delete(p.at, application)
	}
}

func (l *Ledger) drop(key loads.Version, v *version) {
	l.cells -= v.fine.cells() + v.long.cells()
	delete(l.versions, key)
	for _, p := range l.processes {
		if in := p.at[key.Application]; in != nil {
			delete(in.versions, key)
		}
	}
}

// Take enters a report that came now and has passed its Check. One that was
// taken before, or that a later one has overtaken, changes nothing. One that
// tells once more what came before, because the proxy did not hear that it had
// arrived, counts for the rest.
func (l *Ledger) Take(now time.Time, r *loads.Report) {
	at := l.moment(now)
	if at >= l.swept+int64(sweepEvery) {
		l.sweep(at)
	}
	p := l.meet(at, r)
	switch {
	case p == nil:
		l.doubted = at + int64(reportHolds)
		return
	case r.Sequence <= p.sequence:
		return
	}
	before := p.said
	if r.After >= p.sequence {
		before = nil // the proxy knows that it arrived
	}
	from := max(at-int64(r.Covers), p.heard)
	middle := from + (at-from)/2 // what covers an hour is not of the last minute
	p.said = map[loads.Version]*loads.Served{}
	for i := range r.Served {
		s := &r.Served[i]
		v := l.version(at, s.Key())
		if v == nil {
			continue
		}
		p.said[s.Key()] = s
		news := less(s, before[s.Key()])
		l.count(v, middle, &news)
		p.see(at, r.Sequence, &news)
	}
	p.enter(at, r, l.followed)
}

// Refuse notes that a report came now that was not taken: until the next one is
// due nothing is known to have ended.
func (l *Ledger) Refuse(now time.Time) { l.doubted = l.moment(now) + int64(reportHolds) }

// version returns what is known of a version that a report names, or nil when it
// is of no application that is followed, or one too many.
func (l *Ledger) version(at int64, key loads.Version) *version {
	if !l.followed[key.Application] {
		return nil
	}
	v := l.versions[key]
	if v == nil {
		if len(l.versions) >= maxVersions {
			return nil
		}
		v = &version{
			fine: series{width: int64(time.Second), kept: int64(Window / time.Second)},
			long: series{width: int64(longSlot), kept: int64(longWindow / longSlot)},
		}
		l.versions[key] = v
	}
	v.named = at
	return v
}

// count enters what a version served around a time.
func (l *Ledger) count(v *version, middle int64, s *loads.Served) {
	v.shadow.add(s.Shadow)
	if s.Requests == 0 {
		return
	}
	var latency []cell
	if l.cells < maxCells {
		latency = cellsOf(s.Latency)
	}
	l.cells += v.fine.add(middle, s, latency) + v.long.add(middle, s, latency)
}

// sweep lets go of proxies that are gone and of versions that are not named any
// more.
func (l *Ledger) sweep(at int64) {
	l.swept = at
	for key, p := range l.processes {
		if p.expired(at) {
			delete(l.processes, key)
			if l.newest[key.proxy] == key.incarnation {
				delete(l.newest, key.proxy)
			}
		}
	}
	for key, v := range l.versions {
		if at >= v.named+int64(forgetAfter) {
			l.drop(key, v)
		}
	}
}

// moment is now in the ledger's time, which never goes back.
func (l *Ledger) moment(now time.Time) int64 {
	at := max(l.latest, int64(now.Sub(l.since)))
	if at-l.latest >= int64(silenceMatters)/2 { // its machine stood still: who was silent may be about to report
		l.woke = at
	}
	l.latest = at
	return at
}

// Standings returns how versions stand, of applications that are followed. Of
// one that no report has named it may be known that it has no request.
func (l *Ledger) Standings(now time.Time, of []loads.Version) map[loads.Version]Standing {
	at := l.moment(now)
	all := make(map[loads.Version]Standing, len(of))
	here := l.presence(at)
	for _, key := range of {
		if !l.followed[key.Application] {
			continue
		}
		s := Standing{now: at}
		if v := l.versions[key]; v != nil {
			s = v.standing(at)
		}
		ongoing, settled := here.of(key)
		s.Ongoing = ongoing
		if settled >= 0 {
			s.Settled = now.Add(time.Duration(settled - at)).UTC().Round(0)
		}
		all[key] = s
	}
	return all
}

func (v *version) standing(at int64) Standing {
	s := Standing{now: at, Shadow: v.shadow.sum()}
	s.fine, s.long = v.fine.snapshot(), v.long.snapshot()
	if n := len(s.fine); n > 0 {
		end, kept := at/v.fine.width, v.fine.kept
		last := between(s.fine, -1, s.fine[n-1].at) // it keeps no more than the window before that
		recent := between(s.fine, end-kept, end)
		s.Last, s.Recent = last.sample(), recent.sample()
	}
	return s
}
