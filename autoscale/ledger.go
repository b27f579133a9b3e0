package autoscale

import (
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// Ledger is what the proxies have reported of late. It is the caller's to guard
// against use by two at once.
type Ledger struct{}

// NewLedger returns an empty Ledger. since is when this server began to listen:
// what was before is not known.
func NewLedger(since time.Time) *Ledger { return &Ledger{} }

// Follow says which deployments' loads to keep, and for how long each. What is
// no longer followed is forgotten.
func (l *Ledger) Follow(windows map[loads.Key]time.Duration) {}

// Take enters a report that came now. An error says why it was refused, and
// then nothing of it was taken.
func (l *Ledger) Take(now time.Time, r loads.Report) error { return nil }

// Series returns the load of one deployment, or nil when no proxy has said
// anything about it that still holds.
func (l *Ledger) Series(now time.Time, key loads.Key) *Series { return nil }

// Present returns the requests of one deployment as last reported.
func (l *Ledger) Present(now time.Time, key loads.Key) (ongoing, queued int) { return 0, 0 }

// Hold says why nothing may be taken away now on the strength of what is known:
// a proxy is silent, or this ledger is too young for the window; "": it may.
func (l *Ledger) Hold(now time.Time, window time.Duration) string { return "" }

// Proxies returns what is known of each proxy, by name.
func (l *Ledger) Proxies(now time.Time) []ProxyReport { return nil }

// Refused returns how many reports were refused since the beginning, and why
// the last one was.
func (l *Ledger) Refused() (count int, last string) { return 0, "" }

// ProxyReport is what is known of one proxy.
type ProxyReport struct {
	Proxy   string        `json:"proxy"`
	Age     time.Duration `json:"age"`    // ns since its last report
	Silent  bool          `json:"silent"` // it should have reported again by now
	Ready   bool          `json:"ready"`
	Reports uint64        `json:"reports"`
}
