package autoscale

import (
	"fmt"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// twinAfter is longer than a report is on its way: one of an earlier process
// that comes later than that is no late one.
const twinAfter = 15 * time.Second

// nameOf returns under which name to keep what r says, and whether to keep it
// at all. That is the proxy's name, unless two processes report under the same,
// as on two machines with one host name. Then the earlier one of them gets a
// name of its own here, so that the requests of both count.
//
// A report of an earlier process may just have been late. It is none when the
// later one has been there for a while, and goes on to report while the earlier
// one does. Until that is known nothing is taken away.
func (l *Ledger) nameOf(at int64, r *loads.Report) (name string, keep bool) {
	p := l.proxies[r.Proxy]
	if p != nil && p.incarnation == r.Incarnation {
		return r.Proxy, true
	}
	twin := twinName(r)
	switch {
	case l.proxies[twin] != nil:
		return twin, true
	case p == nil || r.Incarnation > p.incarnation || at >= p.until:
		return r.Proxy, true
	case p.rival != -forever && p.end > p.rival && at >= p.began+int64(twinAfter):
		return twin, true
	}
	if p.rival == -forever {
		p.rival = at
	}
	p.dropped++
	l.doubts(at, fmt.Sprintf("an earlier process of proxy %s reports too: its report was late, or two proxies have this name", r.Proxy))
	return "", false
}

// twinName is the name of the earlier of two processes that share one.
func twinName(r *loads.Report) string {
	return fmt.Sprintf("%s (begun %s)", r.Proxy, time.Unix(0, r.Incarnation).UTC().Format(time.RFC3339Nano))
}
