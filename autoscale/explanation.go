package autoscale

import "time"

// Explanation is all that there is to say of how one deployment scales, at one
// moment, by the server that decides.
type Explanation struct {
	Application string        `json:"application"`
	Deployment  string        `json:"deployment"`
	At          time.Time     `json:"at"`
	Policy      string        `json:"policy"`
	Min         int           `json:"min"` // the bounds in force, schedules included
	Max         int           `json:"max"`
	Target      int           `json:"target"`               // replicas that are wanted
	Running     int           `json:"running"`              // replicas that serve
	Ongoing     int           `json:"ongoing"`              // requests at replicas, as last reported
	Queued      int           `json:"queued"`               // requests that wait at the proxies, as last reported
	Load        *LoadSummary  `json:"load,omitempty"`       // absent: not known
	Metric      *MetricSeen   `json:"metric,omitempty"`     // absent: the block has none, or nothing has come yet
	StartTime   time.Duration `json:"start_time,omitempty"` // ns, as seen of late; absent: not known
	Hold        string        `json:"hold,omitempty"`       // why nothing is taken away now
	Decision    Decision      `json:"decision"`             // as it would be made now; its rules are filled in
	State       State         `json:"state"`                // of the delays
	Last        *LastScaling  `json:"last,omitempty"`       // absent: the target is as it was deployed
	Proxies     ProxyList     `json:"proxies"`
}

// LoadSummary is ongoing plus queued requests over the window that ends now.
type LoadSummary struct {
	Window  time.Duration `json:"window"` // ns, as the block has it; 0: the present value counts
	Known   time.Duration `json:"known"`  // ns, how much of the window is known
	Present float64       `json:"present"`
	Mean    float64       `json:"mean"`
	Max     float64       `json:"max"`
	Min     float64       `json:"min"`
}

// MetricSeen is what the block's metric source said last.
type MetricSeen struct {
	Source string    `json:"source"`
	At     time.Time `json:"at"`
	Value  float64   `json:"value"`           // of the deployment as a whole; means nothing beside an error
	Error  string    `json:"error,omitempty"` // why there is no value
}

// LastScaling is the last change of the target.
type LastScaling struct {
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"`
	From   int       `json:"from"`
	To     int       `json:"to"`
	Reason string    `json:"reason,omitempty"`
}

// ProxyList is what is known of the proxies' reports.
type ProxyList struct {
	Proxies     []ProxyReport `json:"proxies"`                // by name
	Refused     int           `json:"refused"`                // reports that could not be used
	LastRefusal string        `json:"last_refusal,omitempty"` // why the last of them was refused
}
