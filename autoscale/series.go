package autoscale

import (
	"slices"
	"time"
)

// Series is the load of one deployment over time, of all proxies together, as
// steps: each holds until the next begins, the last one until now. It is never
// changed once it is handed out.
type Series struct {
	steps []Step
}

// Step is the load from a moment on. Of a load that is only known by intervals
// the mean, the largest and the smallest are of the interval; else all three
// are the same.
type Step struct {
	At             time.Time
	Mean, Max, Min float64
}

// NewSeries returns the series of steps, which are in order of time.
func NewSeries(steps ...Step) *Series { return &Series{steps: slices.Clone(steps)} }

// Level is a step whose load is known exactly.
func Level(at time.Time, value float64) Step { return Step{At: at, Mean: value, Max: value, Min: value} }
