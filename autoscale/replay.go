package autoscale

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// Bounds on a run; past them it is refused.
const (
	MaxReplayTicks      = 100_000_000
	MaxReplayChanges    = 1_000_000
	MaxReplayRequests   = 10_000_000 // of a simulated trace
	maxReplayMoment     = time.Duration(math.MaxInt64 / 4)
	replayPicturePoints = 1200 // points of Result.Load at most
)

// ReplayOptions says how a run goes. Its times count from the run's beginning.
type ReplayOptions struct {
	Start      time.Time     // what the clock says at the beginning, for schedules; zero: 1970 in UTC
	Tick       time.Duration // between two decisions; the first is at 0
	Until      time.Duration // the last moment, which belongs to the run
	StartDelay time.Duration // from the order for a replica until it runs
	Queue      QueueOptions  // of a simulated trace
	Check      func() error  // asked now and then; an error ends the run; nil: there is none
}

// Change is what is wanted and what is there at a moment of a run.
type Change struct {
	At      time.Duration
	Running int // when the decision was made
	Target  int // from then on
	Load    float64
	Desired float64
	Reason  string
}

// Point is a value that holds until the next Point.
type Point struct {
	At    time.Duration
	Value float64
}

// Result is how a run went.
type Result struct {
	Changes []Change // the state at 0, before the first decision, and each change of the target
	Running []Point
	Load    []Point // means, where there are too many values to show each
	Summary Summary
}

// Replay runs a policy over a trace, deciding as the leader does. It starts
// with initial_replicas, or else min_replicas, wanted and running. A trace that
// pins the replicas at 0 says what runs instead, and what is wanted too if there
// is no initial_replicas.
func Replay(policy *Policy, trace *Trace, options ReplayOptions) (*Result, error) {
	if err := checkReplay(policy, trace, options); err != nil {
		return nil, err
	}
	r := newReplayer(policy, trace, options)
	ticks := int64(options.Until / options.Tick)
	for i := range ticks + 1 {
		if options.Check != nil {
			if err := options.Check(); err != nil {
				return nil, err
			}
		}
		r.advance(time.Duration(i) * options.Tick)
		if r.decide(i == 0); len(r.result.Changes) > MaxReplayChanges {
			return nil, fmt.Errorf("the target changes more than %d times: a run shows at most so many", MaxReplayChanges)
		}
	}
	r.advance(options.Until)
	r.finish()
	return r.result, nil
}

func checkReplay(policy *Policy, trace *Trace, options ReplayOptions) error {
	switch {
	case policy.block.Policy == appspec.PolicyExternal:
		return errors.New("its policy is external: it is scaled from outside, and there is no decision to replay")
	case policy.block.Metric != nil && !trace.Metered():
		return errors.New(`it scales on a metric: the trace must say what that is, with "metric" in its lines`)
	case options.Until < 0 || options.Until > maxReplayMoment:
		return fmt.Errorf("a run cannot last %s", options.Until)
	case options.StartDelay < 0 || options.StartDelay > maxReplayMoment:
		return fmt.Errorf("a replica cannot start in %s", options.StartDelay)
	case options.Tick <= 0:
		return fmt.Errorf("a tick of %s is none: it must be more than 0", options.Tick)
	case int64(options.Until/options.Tick) >= MaxReplayTicks:
		return fmt.Errorf("%s in ticks of %s is more than %d decisions: take a larger tick or a shorter run",
			options.Until, options.Tick, MaxReplayTicks)
	case trace.Simulated():
		return options.Queue.check(trace, options.Until)
	}
	return nil
}

// traffic is the load of a run, given or simulated.
type traffic interface {
	// pass lets time go on to a moment, with so many replicas, and tells the
	// tally of each stretch of constant load.
	pass(to time.Duration, running int, stretch func(length time.Duration, load float64))
	present() float64
	series() *Series
}

// replayer is a run on its way.
type replayer struct {
	policy  *Policy
	trace   *Trace
	options ReplayOptions
	traffic traffic

	now     time.Duration
	next    int // line of the trace
	metric  *float64
	target  int
	running int
	pinned  bool
	starts  []start // in the order of their times
	ordered int     // replicas in starts
	state   State
	tally   tally
	result  *Result
}

// start is replicas that will run.
type start struct {
	at    time.Duration
	count int
}

func newReplayer(policy *Policy, trace *Trace, options ReplayOptions) *replayer {
	if options.Start.IsZero() {
		options.Start = time.Unix(0, 0).UTC() // the zero time means "unset" to a State
	}
	r := &replayer{policy: policy, trace: trace, options: options, result: &Result{}}
	r.target = policy.block.MinReplicas
	if n := policy.block.InitialReplicas; n != nil {
		r.target = *n
	}
	r.running = r.target
	if first := trace.lines[0]; first.At == 0 && first.Running != nil && policy.block.InitialReplicas == nil {
		least, most := policy.Bounds(options.Start)
		r.target = min(max(*first.Running, least), most)
	}
	r.tally = newTally(policy.block.TargetOngoingRequests, options.Until)
	if trace.Simulated() {
		r.traffic = newQueue(policy, trace, options)
	} else {
		r.traffic = newGiven(trace, options.Start)
	}
	r.events()
	r.runs(r.running)
	return r
}

// advance lets time go on: lines of the trace come into force and replicas that
// were ordered begin to run, each at its own moment.
func (r *replayer) advance(to time.Duration) {
	for {
		event := to
		if r.next < len(r.trace.lines) {
			event = min(event, r.trace.lines[r.next].At)
		}
		if len(r.starts) > 0 {
			event = min(event, r.starts[0].at)
		}
		r.traffic.pass(event, r.running, func(length time.Duration, load float64) {
			r.tally.pass(length, load, r.running, r.ordered)
		})
		r.now = event
		r.events()
		if event == to {
			return
		}
	}
}

// events does what is due now.
func (r *replayer) events() {
	running := r.running
	for ; r.next < len(r.trace.lines) && r.trace.lines[r.next].At <= r.now; r.next++ {
		line := &r.trace.lines[r.next]
		if line.Running != nil {
			r.pinned, r.starts, r.ordered, running = true, nil, 0, *line.Running
		}
		if line.Metric != nil {
			r.metric = line.Metric
		}
	}
	for len(r.starts) > 0 && r.starts[0].at <= r.now {
		running, r.ordered = running+r.starts[0].count, r.ordered-r.starts[0].count
		r.starts = r.starts[1:]
	}
	if running != r.running {
		r.runs(running)
	}
}

func (r *replayer) runs(running int) {
	r.running = running
	r.result.Running = append(r.result.Running, Point{At: r.now, Value: float64(running)})
}

func (r *replayer) decide(first bool) {
	in := Input{
		Now: r.options.Start.Add(r.now), Running: r.running, Target: r.target,
		Load: r.traffic.series(), StartTime: r.options.StartDelay,
	}
	if r.metric != nil {
		in.Metric = &Reading{At: in.Now, Value: *r.metric}
	}
	var d Decision
	d, r.state = r.policy.Decide(in, r.state)
	change := Change{At: r.now, Running: r.running, Target: d.Target, Load: r.traffic.present(), Desired: d.Desired, Reason: d.Reason}
	if first {
		begin := change
		begin.Target, begin.Reason = r.target, r.beginning()
		r.result.Changes = append(r.result.Changes, begin)
		r.tally.wants(r.target)
	}
	if d.Target == r.target {
		return
	}
	r.result.Changes = append(r.result.Changes, change)
	r.tally.wants(d.Target)
	r.follow(d.Target)
}

// beginning says where the first target comes from.
func (r *replayer) beginning() string {
	switch {
	case r.policy.block.InitialReplicas != nil:
		return "the run begins with initial_replicas"
	case r.pinned:
		return "the run begins with what the trace says is running"
	default:
		return "the run begins with min_replicas"
	}
}

// follow makes what runs follow the target: more after the start delay, fewer
// at once, those that do not run yet first.
func (r *replayer) follow(target int) {
	more := target - r.target
	r.target = target
	if r.pinned {
		return
	}
	if more > 0 {
		r.starts = append(r.starts, start{at: r.now + r.options.StartDelay, count: more})
		r.ordered += more
		r.events()
		return
	}
	for fewer := -more; fewer > 0; {
		if len(r.starts) == 0 {
			r.runs(r.running - fewer)
			return
		}
		last := &r.starts[len(r.starts)-1]
		taken := min(fewer, last.count)
		fewer, last.count, r.ordered = fewer-taken, last.count-taken, r.ordered-taken
		if last.count == 0 {
			r.starts = r.starts[:len(r.starts)-1]
		}
	}
}

func (r *replayer) finish() {
	r.result.Load = r.tally.picture()
	if !r.trace.Simulated() && len(r.trace.lines) <= replayPicturePoints {
		r.result.Load = r.trace.points(r.options.Until)
	}
	r.result.Summary = r.tally.summary()
	if q, simulated := r.traffic.(*queue); simulated {
		r.result.Summary.Queue = q.summary()
	}
}

// points is the requests of a trace up to a moment.
func (t *Trace) points(until time.Duration) []Point {
	points := []Point{}
	if t.lines[0].At > 0 {
		points = append(points, Point{})
	}
	for i := range t.lines {
		if line := &t.lines[i]; line.At <= until {
			points = append(points, Point{At: line.At, Value: line.Requests})
		}
	}
	return points
}
