package autoscale

import "github.com/serve-nomad/serve-nomad/loads"

// proxy is what is known of one proxy. Its times are the ledger's.
type proxy struct {
	incarnation int64
	sequence    uint64
	ready       bool
	left        bool
	end         int64 // when its last report came
	until       int64 // when it is silent, if nothing else comes
	began       int64 // when its process was first heard of
	rival       int64 // when an earlier process of the same name was first heard of since; -forever: none
	twin        bool  // a later process has the same name
	reports     uint64
	dropped     uint64
	counts      map[loads.Key]*count // of the last report, and of trails
}

// count is the requests of one deployment at one proxy.
type count struct {
	ongoing, queued int
	report          uint64 // proxy.reports when it was named last
	trail           *trail // nil: the deployment is not followed, or had no request of late
}

func (c *count) present() float64 { return float64(c.ongoing + c.queued) }

// gone says whether nobody waits for a proxy any more.
func (p *proxy) gone(at int64) bool { return p.left || p.forgotten(at) }

// forgotten says whether a proxy has been silent for too long to matter.
func (p *proxy) forgotten(at int64) bool {
	return at >= p.end+max(int64(silenceMatters), 2*(p.until-p.end))
}

// expired says whether nothing of a proxy is needed: not its load, and not even
// its name, to know an old report by.
func (p *proxy) expired(at int64) bool {
	if !p.forgotten(at) {
		return false
	}
	for key, c := range p.counts {
		if c.trail != nil {
			return false
		}
		delete(p.counts, key)
	}
	return true
}

// overtaken says whether a later report of the same process has been taken.
func (p *proxy) overtaken(r *loads.Report) bool {
	return r.Incarnation == p.incarnation && r.Sequence <= p.sequence
}

// enter takes what a report says.
func (p *proxy) enter(l *Ledger, at int64, r *loads.Report) {
	iv := p.interval(at, r)
	p.reports++
	for i := range r.Deployments {
		d := &r.Deployments[i]
		c := p.counts[d.Key()]
		if c == nil {
			c = &count{}
			p.counts[d.Key()] = c
		}
		c.ongoing, c.queued, c.report = d.Ongoing, d.Queued, p.reports
		if r.Leaving {
			c.ongoing, c.queued = 0, 0
		}
		mean := max(d.Min, min(d.Mean, d.Max))
		p.track(l, c, d.Key(), &iv, span{mean: mean, max: d.Max, min: d.Min})
	}
	for key, c := range p.counts {
		if c.report == p.reports && !r.Leaving {
			continue
		}
		if c.report != p.reports { // it had no request, or none that is known
			c.ongoing, c.queued = 0, 0
			p.track(l, c, key, &iv, span{})
		}
		if c.trail == nil {
			delete(p.counts, key)
		}
	}
	if r.Incarnation != p.incarnation {
		p.incarnation, p.began, p.rival = r.Incarnation, at, -forever
	}
	p.sequence = r.Sequence
	p.ready, p.left = r.Ready, r.Leaving
	p.end, p.until = at, iv.until
}

// track enters a load in the trail of its deployment, if that is followed. None
// after none is what a trail says anyway.
func (p *proxy) track(l *Ledger, c *count, key loads.Key, iv *interval, load span) {
	none := load.max == 0 && c.present() == 0
	if c.trail == nil {
		f := l.followed[key]
		if f == nil || none {
			return
		}
		f.begin(iv.from, c)
	} else if none && c.trail.tail.mean == 0 {
		return
	}
	c.trail.enter(iv, load, c.present())
}

// interval returns what is new in a report. Reports in sequence leave no hole
// and never overlap, however late each of them came. Otherwise the last report
// of the same process holds up to where this one begins. A process that ended
// took its requests with it, when exactly is not known. One that is not ready
// does not know what was new.
func (p *proxy) interval(at int64, r *loads.Report) interval {
	iv := interval{reported: at - int64(r.Covers), to: at}
	iv.until = at + max(int64(reportHolds), 2*int64(r.Next))
	iv.from = max(iv.reported, p.end)
	iv.ends = iv.from
	switch {
	case r.Incarnation != p.incarnation:
		iv.reported, iv.ends = iv.from, min(iv.from, p.until)
	case !r.Ready:
		iv.from, iv.ends = at, at
	case r.Sequence == p.sequence+1:
		iv.from, iv.ends = p.end, p.end
	}
	return iv
}
