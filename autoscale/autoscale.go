// Package autoscale decides how many replicas a deployment should have. Decide
// is a pure function: an autoscaling block, what is known of the load, and the
// state of the delays go in; a decision with its reason and the next state come
// out. The leader, `autoscale replay` and the tests run the same code.
package autoscale

import "time"

// Input is what one decision is made from.
type Input struct {
	Now       time.Time
	Running   int           // replicas that serve now
	Target    int           // replicas that are wanted now
	Load      *Series       // ongoing plus queued requests; nil: not known, which is not the same as none
	Noise     float64       // share by which Load may be off, because it is put together from reports; 0: it is exact
	Metric    *Reading      // of the block's metric source; nil: it has none, or nothing has come yet
	StartTime time.Duration // from the order for a replica until it serves, as seen of late; 0: not known
	Hold      string        // why nothing may be taken away now, for example a proxy that is silent; "": it may
	Explain   bool          // fill in Decision.Rules, and Reason even if nothing changes
}

// Reading is what a metric source said last.
type Reading struct {
	At    time.Time
	Value float64 // of the deployment as a whole
	Err   string  // why there is none; then Value means nothing
}

// Decision is what should be done, and why.
type Decision struct {
	Target  int       `json:"target"`            // replicas wanted from now on; Input.Target: no change
	Desired float64   `json:"desired"`           // what the load alone asks for, before factors, delays and bounds
	Reason  string    `json:"reason"`            // of Target, in one line
	Rules   []Rule    `json:"rules,omitempty"`   // what each rule said, in the order in which they were asked
	Pending *Pending  `json:"pending,omitempty"` // what happens next if the load stays as it is
	Min     int       `json:"min"`               // the bounds in force, schedules included
	Max     int       `json:"max"`
	At      time.Time `json:"at"`
}

// Rule is one rule's say.
type Rule struct {
	Name   string `json:"name"` // load | cold-start | policy | factor | delay | forecast | schedule | bounds | hold ...
	Wants  int    `json:"wants"`
	Detail string `json:"detail"`
}

// Pending is a change that waits for its delay.
type Pending struct {
	Target int       `json:"target"`
	At     time.Time `json:"at"` // when it is made, if the load stays as it is
}

// State is what a deployment's autoscaler remembers from one decision to the
// next. The zero value is a fresh start. It is lost when the leader changes;
// the target, which is in the replicated State, is not.
type State struct {
	Direction int       `json:"direction,omitempty"` // +1: wants more since Since; -1: fewer
	Since     time.Time `json:"since,omitzero"`

	// Of policy kpa.
	PanicSince time.Time `json:"panic_since,omitzero"` // of the last tick that was over the threshold; zero: stable
	PanicMax   int       `json:"panic_max,omitempty"`  // the most that was wanted since panic began
	Recent     []Want    `json:"recent,omitempty"`     // of the scale_down_delay, oldest first
	ZeroSince  time.Time `json:"zero_since,omitzero"`
	LoadSince  time.Time `json:"load_since,omitzero"` // since when there is load; zero: there is none
	Started    bool      `json:"started,omitempty"`   // a decision has been made
}

// Want is what was wanted at a time.
type Want struct {
	At       time.Time `json:"at"`
	Replicas int       `json:"replicas"`
}
