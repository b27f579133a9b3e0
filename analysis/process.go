package analysis

import "github.com/serve-nomad/serve-nomad/loads"

// processKey names one process of a proxy. Two machines may have one name by
// mistake, and a proxy may start again: each process counts by itself.
type processKey struct {
	proxy       string
	incarnation int64
}

// process is what is known of one. Its times are the ledger's.
type process struct {
	sequence uint64                          // of the last report
	said     map[loads.Version]*loads.Served // in that, of what is followed
	heard    int64                           // when it came
	until    int64                           // when the process is silent, if nothing else comes
	ready    bool
	left     bool
	replaced bool // a later process of the same name has reported
	at       map[string]*attendance
}

// attendance is the requests of one application at one process.
type attendance struct {
	since    int64           // first report since the application has been followed
	busy     map[string]bool // deployments that have requests, of which versions is not said
	versions map[loads.Version]*load
}

// load is the requests of one version at one process.
type load struct {
	ongoing int
	quiet   int64  // since when it has none; -1: it has
	named   uint64 // sequence of the last report that names it
}

// meet returns the process that r is of, or nil when there are too many.
func (l *Ledger) meet(at int64, r *loads.Report) *process {
	key := processKey{r.Proxy, r.Incarnation}
	p := l.processes[key]
	if p != nil {
		return p
	}
	if len(l.processes) >= maxProcesses {
		l.sweep(at)
	}
	if len(l.processes) >= maxProcesses {
		return nil
	}
	p = &process{heard: at - int64(r.Covers), at: map[string]*attendance{}}
	l.processes[key] = p
	newest, known := l.newest[r.Proxy]
	if other := l.processes[processKey{r.Proxy, min(newest, r.Incarnation)}]; known && other != nil {
		other.replaced = true
	}
	l.newest[r.Proxy] = max(newest, r.Incarnation)
	return p
}

// see takes in what a report says of one version.
func (p *process) see(at int64, sequence uint64, s *loads.Served) {
	in := p.attend(at, s.Application)
	now := in.versions[s.Key()]
	if now == nil {
		now = &load{quiet: at}
		in.versions[s.Key()] = now
	}
	now.named = sequence
	if s.Ongoing == 0 && s.Requests == 0 {
		now.rests(at)
		return
	}
	now.ongoing, now.quiet = s.Ongoing, -1
}

// rests notes that there is no request, and was none since the report before.
func (now *load) rests(at int64) {
	now.ongoing = 0
	if now.quiet < 0 {
		now.quiet = at
	}
}

func (p *process) attend(at int64, application string) *attendance {
	in := p.at[application]
	if in == nil {
		in = &attendance{since: at, versions: map[loads.Version]*load{}}
		p.at[application] = in
	}
	return in
}

// enter takes in the rest of a report: what it does not name has no request
// there. Only of a deployment with requests, none of whose versions is named, the
// proxy has not heard yet that they are to be told of.
func (p *process) enter(at int64, r *loads.Report, followed map[string]bool) {
	for application := range followed {
		in := p.attend(at, application)
		in.busy = nil
		for _, now := range in.versions {
			if now.named != r.Sequence {
				now.rests(at)
			}
		}
	}
	told := map[loads.Key]bool{}
	for key := range p.said {
		told[loads.Key{Application: key.Application, Deployment: key.Deployment}] = true
	}
	for i := range r.Deployments {
		d := &r.Deployments[i]
		if in := p.at[d.Application]; in != nil && d.Ongoing > 0 && !told[d.Key()] {
			if in.busy == nil {
				in.busy = map[string]bool{}
			}
			in.busy[d.Deployment] = true
		}
	}
	p.sequence, p.ready, p.left = r.Sequence, r.Ready, r.Leaving
	p.heard, p.until = at, at+max(int64(reportHolds), 2*int64(r.Next))
}

// gone says whether nobody waits for a process any more: it has left, it has been
// silent for too long to matter, or it is silent and another has taken its name.
func (p *process) gone(at int64) bool {
	return p.left || p.forgotten(at) || p.replaced && at >= p.until
}

func (p *process) forgotten(at int64) bool {
	return at >= p.heard+max(int64(silenceMatters), 2*(p.until-p.heard))
}

// expired says whether not even its name is needed, to know an old report by.
func (p *process) expired(at int64) bool { return p.forgotten(at) }

// presence is where versions have requests, at one moment.
type presence struct {
	known     bool // all proxies that there are have said what they have
	processes []*process
}

func (l *Ledger) presence(at int64) presence {
	here := presence{known: at >= l.doubted}
	holds, ready := int64(reportHolds), false
	for _, p := range l.processes {
		if p.gone(at) {
			continue
		}
		here.processes = append(here.processes, p)
		here.known = here.known && at < p.until
		holds = max(holds, p.until-p.heard)
		ready = ready || p.ready
	}
	here.known = here.known && ready && at >= l.woke+holds
	return here
}

// of returns how many requests a version has, and since when it has none; -1: it
// has, or that is not known.
func (here presence) of(key loads.Version) (ongoing int, settled int64) {
	if !here.known {
		settled = -1
	}
	for _, p := range here.processes {
		since := int64(-1)
		if in := p.at[key.Application]; in != nil && !in.busy[key.Deployment] {
			since = in.since
			if now := in.versions[key]; now != nil {
				ongoing, since = ongoing+now.ongoing, now.quiet
			}
		}
		if settled >= 0 {
			settled = max(settled, since)
		}
		if since < 0 {
			settled = -1
		}
	}
	return ongoing, settled
}
