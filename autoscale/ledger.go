package autoscale

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

const (
	// reportHolds is how long a report holds at least, as in Ray: one that is
	// lost or late changes nothing. For as long as the reports hold that have
	// come a ledger that is new, or was not asked for a while because its
	// machine stood still, waits for those of the other proxies.
	reportHolds = 10 * time.Second
	// silenceMatters is how long at least a silent proxy keeps everything as it
	// is. A proxy that was cut off, or that is started again, is back by then;
	// one whose machine is gone must not keep replicas for ever.
	silenceMatters = 5 * time.Minute
	// maxProxies bounds the names that are remembered.
	maxProxies = 10_000
	// sweepEvery is how often what is out of date is looked for.
	sweepEvery = 10 * time.Second
)

// Ledger is what the proxies have reported of late. It is the caller's to guard
// against use by two at once.
//
// All its times are the leader's own: a report covers what came before its
// arrival, whatever the proxy's clock says. They come from now, so they are
// safe from a clock that is set as long as now keeps its monotonic reading, as
// time.Now gives it. A now that lies before one seen earlier counts as that.
type Ledger struct {
	since    time.Time
	latest   int64 // ns after since: the last now
	woke     int64 // ns after since: when it began to listen, the last time
	known    int64 // ns after since: from here on no proxy's load is missing; -forever: none has said
	swept    int64
	proxies  map[string]*proxy
	followed map[loads.Key]*followed
	refused  int
	refusal  string
	doubted  int64  // until then a report that was not taken may have told of a load that is not known
	doubt    string // why it was not taken
	watch    watch
}

// watch is what Hold and Series need to know of the proxies as they are.
type watch struct {
	stale    bool  // a proxy has changed since
	evidence int64 // until when at least one proxy that is ready is not silent
	quiet    int64 // when the next proxy falls silent; before the last now: one is
	holds    int64 // how long the reports hold, at most
	at       int64 // when silence was written
	silence  string
}

// NewLedger returns an empty Ledger. since is when this server began to listen:
// what was before is not known.
func NewLedger(since time.Time) *Ledger {
	return &Ledger{
		since: since, known: -forever,
		proxies: map[string]*proxy{}, followed: map[loads.Key]*followed{},
		watch: watch{stale: true},
	}
}

// Follow says which deployments' loads to keep, and for how long each. What is
// no longer followed is forgotten. Of one that is followed anew the load is
// known from the proxies' last reports on.
func (l *Ledger) Follow(windows map[loads.Key]time.Duration) {
	for key, f := range l.followed {
		if _, still := windows[key]; !still {
			f.leave()
			delete(l.followed, key)
		}
	}
	for key, window := range windows {
		length := max(0, clip(window))
		f := l.followed[key]
		switch {
		case f == nil:
			l.follow(key, length)
		case f.window != length:
			if f.window < length {
				f.from = max(f.from, l.latest-f.window)
			}
			f.window, f.series = length, nil
		}
	}
}

// follow begins to keep a deployment's loads.
func (l *Ledger) follow(key loads.Key, window int64) {
	f := &followed{window: window, from: -forever}
	l.followed[key] = f
	for _, p := range l.proxies {
		if p.left {
			continue
		}
		f.from = max(f.from, p.end)
		if c := p.counts[key]; c != nil && c.present() > 0 {
			t := f.begin(p.end, c)
			t.tail.mean, t.tail.max, t.tail.min = c.present(), c.present(), c.present()
			t.until = p.until
		}
	}
}

// Take enters a report that came now. An error says why it was refused, and
// then nothing of it was taken. A report that was taken before, or that a later
// one has overtaken, is passed over without an error: the answer to the first
// may have been lost.
func (l *Ledger) Take(now time.Time, r loads.Report) error {
	at := l.moment(now)
	if err := r.Check(); err != nil {
		return l.refuse(at, err)
	}
	name, keep := l.nameOf(at, &r)
	if !keep {
		return nil
	}
	p := l.proxies[name]
	if at >= l.swept+int64(sweepEvery) || (p == nil && len(l.proxies) >= maxProxies) {
		l.sweep(at)
		p = l.proxies[name]
	}
	switch {
	case p == nil && len(l.proxies) >= maxProxies:
		return l.refuse(at, fmt.Errorf("proxy %q: %d others have reported of late, and no more are taken: give a proxy the same name after a restart", r.Proxy, maxProxies))
	case p == nil:
		p = l.meet(at, &r)
		p.twin = name != r.Proxy
		l.proxies[name] = p
	case p.overtaken(&r):
		p.dropped++
		return nil
	}
	p.enter(l, at, &r)
	l.watch.stale = true
	return nil
}

// refuse counts what was refused. Somewhere there is a load that is not known.
func (l *Ledger) refuse(at int64, err error) error {
	l.refused++
	l.refusal = err.Error()
	l.doubts(at, "a load report was refused: "+l.refusal)
	return err
}

// doubts keeps everything as it is for as long as a report holds.
func (l *Ledger) doubts(at int64, why string) {
	l.doubted, l.doubt = at+int64(reportHolds), why
}

// meet enters a proxy that has not reported before. The first report of a
// process covers its whole life, so before there was nothing. Of another one
// the past is not known, unless this ledger is old enough for it to have
// reported long ago: then it could not, and tells now of all that time.
func (l *Ledger) meet(at int64, r *loads.Report) *proxy {
	begin := at - int64(r.Covers)
	if r.Sequence > 1 && at < int64(reportHolds) {
		l.known = max(l.known, begin)
		l.forget()
	}
	return &proxy{
		incarnation: r.Incarnation, sequence: r.Sequence - 1, began: at, rival: -forever,
		end: begin, until: begin, counts: map[loads.Key]*count{},
	}
}

// forget makes all series anew.
func (l *Ledger) forget() {
	for _, f := range l.followed {
		f.series = nil
	}
}

// begin returns from when on the load of all proxies is known.
func (l *Ledger) begin() int64 {
	if l.known == -forever {
		return 0 // since
	}
	return l.known
}

// Series returns the load of one deployment, or nil when no proxy has said
// anything about it that still holds, or when it is not followed.
//
// The load of a proxy that falls silent counts until then, not after; whether
// one is silent is for Hold to say. The series begins where the load of every
// proxy begins to be known. A proxy that starts later had none before.
func (l *Ledger) Series(now time.Time, key loads.Key) *Series {
	at := l.moment(now)
	f := l.followed[key]
	if f == nil || l.look().evidence <= at {
		return nil
	}
	return f.sum(l)
}

// Present returns the requests of one deployment as last reported, by the
// proxies that are not silent.
func (l *Ledger) Present(now time.Time, key loads.Key) (ongoing, queued int) {
	at := l.moment(now)
	for _, p := range l.proxies {
		if c := p.counts[key]; c != nil && at < p.until {
			ongoing += c.ongoing
			queued += c.queued
		}
	}
	return ongoing, queued
}

// Hold says why nothing may be taken away now on the strength of what is known:
// a proxy is silent, a report was not taken, or this ledger is too young for the
// window; "": it may.
func (l *Ledger) Hold(now time.Time, window time.Duration) string {
	at := l.moment(now)
	w := l.look()
	if w.quiet <= at && w.at != at {
		w.at, w.silence = at, l.silence(at)
	}
	age := time.Duration(at).Truncate(time.Second)
	switch {
	case w.quiet <= at && w.silence != "":
		return w.silence
	case w.evidence <= at:
		return "no proxy that is ready has reported: the load is not known"
	case at < l.doubted:
		return l.doubt
	case at < clip(window):
		return fmt.Sprintf("this server leads for %s and looks back %s", age, window)
	case at < l.woke+w.holds:
		return fmt.Sprintf("this server has listened for %s: within %s all proxies report",
			time.Duration(at-l.woke).Truncate(time.Second), time.Duration(w.holds))
	default:
		return ""
	}
}

// silence says which proxies are silent and not forgotten.
func (l *Ledger) silence(at int64) string {
	var names []string
	for name, p := range l.proxies {
		if p.until <= at && !p.gone(at) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	first := slices.Min(names)
	age := time.Duration(at - l.proxies[first].end).Truncate(time.Second)
	if len(names) == 1 {
		return fmt.Sprintf("proxy %s has been silent for %s: its load is not known", first, age)
	}
	return fmt.Sprintf("proxy %s has been silent for %s, and %d more are: their load is not known", first, age, len(names)-1)
}

// look returns the watch for the proxies as they are.
func (l *Ledger) look() *watch {
	if !l.watch.stale {
		return &l.watch
	}
	l.watch = watch{evidence: -forever, quiet: forever, holds: int64(reportHolds), at: -forever}
	for _, p := range l.proxies {
		if p.left {
			continue
		}
		if p.ready {
			l.watch.evidence = max(l.watch.evidence, p.until)
		}
		if !p.gone(l.latest) {
			l.watch.quiet = min(l.watch.quiet, p.until)
			l.watch.holds = max(l.watch.holds, p.until-p.end)
		}
	}
	return &l.watch
}

// Proxies returns what is known of each proxy, by name. One that has left, or
// that has been silent for so long that it is not waited for, is not named.
func (l *Ledger) Proxies(now time.Time) []ProxyReport {
	at := l.moment(now)
	var all []ProxyReport
	for name, p := range l.proxies {
		if p.gone(at) {
			continue
		}
		all = append(all, ProxyReport{
			Proxy: name, Age: time.Duration(at - p.end), Silent: p.until <= at,
			Ready: p.ready, Reports: p.reports, Dropped: p.dropped, Twin: p.twin,
		})
	}
	slices.SortFunc(all, func(a, b ProxyReport) int { return cmp.Compare(a.Proxy, b.Proxy) })
	return all
}

// Refused returns how many reports were refused since the beginning, and why
// the last one was.
func (l *Ledger) Refused() (count int, last string) { return l.refused, l.refusal }

// ProxyReport is what is known of one proxy.
type ProxyReport struct {
	Proxy   string        `json:"proxy"`
	Age     time.Duration `json:"age"`    // ns since its last report
	Silent  bool          `json:"silent"` // it should have reported again by now
	Ready   bool          `json:"ready"`
	Reports uint64        `json:"reports"`
	Dropped uint64        `json:"dropped"`        // reports that came twice, or after a later one
	Twin    bool          `json:"twin,omitempty"` // another one reports under the name that it has too
}

// sweep lets go of what no window reaches and of proxies that are gone.
func (l *Ledger) sweep(at int64) {
	l.swept = at
	for _, f := range l.followed {
		f.sweep(at)
	}
	for name, p := range l.proxies {
		if p.expired(at) {
			delete(l.proxies, name)
		}
	}
}

// moment is now in the ledger's time, which never goes back.
func (l *Ledger) moment(now time.Time) int64 {
	at := max(l.latest, clip(now.Sub(l.since)))
	if at-l.latest >= int64(silenceMatters)/2 { // less, and the proxies are still waited for
		l.woke = at
	}
	l.latest = at
	return at
}
