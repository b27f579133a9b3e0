package gate

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// served is how the replicas of one version have served, while the gate is
// watched. It has a lock of its own, so that an answer that has begun is counted
// without the gate's.
type served struct {
	mu   sync.Mutex
	open counts // since the last report that arrived
	told counts // of these, those in the report that was made last
}

// counts is what is told of a version.
type counts struct {
	requests, errors uint64
	latency          map[int]uint64
	shadow           loads.Shadowed
}

// try counts a try that has ended or whose answer has begun, which it had after
// took; 0: it had none. Counts stand still at what a report may say: nobody hears
// of this proxy, and has not for very long.
func (s *served) try(failed bool, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.requests >= loads.MaxRequests {
		return
	}
	s.open.requests++
	if failed {
		s.open.errors++
	}
	if took > 0 {
		s.open.latency = count(s.open.latency, took)
	}
}

func count(buckets map[int]uint64, took time.Duration) map[int]uint64 {
	if buckets == nil {
		buckets = map[int]uint64{}
	}
	buckets[loads.LatencyBucket(took)]++
	return buckets
}

// broke counts that an answer broke off which had begun well.
func (s *served) broke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.errors = min(s.open.errors+1, loads.MaxRequests)
}

// cut fills in what a report says of the version. An answer that broke off may
// have begun before the report: an error for which this one has no request
// waits for the next.
func (s *served) cut(out *loads.Served) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.open
	t.errors = min(t.errors, t.requests)
	t.latency, t.shadow.Latency, t.shadow.Primary = maps.Clone(t.latency), maps.Clone(t.shadow.Latency), maps.Clone(t.shadow.Primary)
	s.told = t
	out.Requests, out.Errors, out.Latency = t.requests, t.errors, t.latency
	if t.shadow.Requests > 0 || t.shadow.Dropped > 0 {
		out.Shadow = &t.shadow
	}
}

// arrived says that what cut told last need not be told again.
func (s *served) arrived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.requests -= s.told.requests
	s.open.errors -= s.told.errors
	take(s.open.latency, s.told.latency)
	a, b := &s.open.shadow, &s.told.shadow
	a.Requests -= b.Requests
	a.Differing -= b.Differing
	a.Errors -= b.Errors
	a.Dropped -= b.Dropped
	take(a.Latency, b.Latency)
	take(a.Primary, b.Primary)
	s.told = counts{}
}

func take(from, told map[int]uint64) {
	for bucket, n := range told {
		if from[bucket] -= n; from[bucket] == 0 {
			delete(from, bucket)
		}
	}
}

// untold says whether there is something that no report has told. An error alone,
// of an answer that broke off, waits for a request that may never come.
func (s *served) untold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open.requests > 0 || s.open.shadow.Requests > 0 || s.open.shadow.Dropped > 0
}

func (s *served) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.told = counts{}, counts{}
}

// Watch says whether the gate counts how its versions serve.
func (g *Gate) Watch(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watched.Swap(on) == on {
		return
	}
	for _, v := range g.versions {
		v.served.clear()
	}
	g.prune()
}

// Served returns how each version served that has replicas here, or had some
// since the last report that arrived; nil: the gate is not watched.
func (g *Gate) Served() []loads.Served {
	if !g.watched.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]loads.Served, 0, len(g.versions))
	for name, v := range g.versions {
		s := loads.Served{Application: g.Application, Deployment: g.Deployment, Version: name}
		here := false
		for _, r := range g.replicas {
			if r.version == v {
				here = true
				s.Ongoing += r.member.InFlight() - r.copies
			}
		}
		if v.served.cut(&s); here || s.Requests > 0 || s.Shadow != nil {
			list = append(list, s)
		}
	}
	return list
}

// ServedArrived says that what Served returned last has arrived.
func (g *Gate) ServedArrived() {
	if !g.watched.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, v := range g.versions {
		v.served.arrived()
	}
	g.prune()
}

// HeadCame notes that the head of the answer has come, where what the answer is
// worth shows only at its end.
func (s *Slot) HeadCame() {
	if s.gate.watched.Load() {
		s.verdict.took = max(time.Since(s.since), 1)
	}
}

// BrokeOff counts it as an error that an answer broke off after it had begun, or
// was not complete when the request's time was over.
func (s *Slot) BrokeOff() {
	v := &s.verdict
	if !v.counted {
		s.count(true)
		return
	}
	if !v.blamed && s.gate.watched.Load() {
		v.blamed = true
		s.Replica.version.served.broke()
	}
}

// Unanswered counts the try as an error for which the replica is not left alone:
// its client gave it no time, or a connection died that had been kept.
func (s *Slot) Unanswered() { s.count(true) }

// count counts the try, once.
func (s *Slot) count(failed bool) {
	v := &s.verdict
	if v.counted || v.copied || !s.gate.watched.Load() {
		return
	}
	v.counted, v.blamed = true, failed
	s.Replica.version.served.try(failed, v.took)
}

// countAnswer counts the try by the answer's status.
func (s *Slot) countAnswer(status int) {
	if s.verdict.took == 0 {
		s.HeadCame()
	}
	s.count(status >= http.StatusInternalServerError)
}
