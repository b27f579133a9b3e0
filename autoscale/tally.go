package autoscale

import "time"

// Summary is a run in figures.
type Summary struct {
	Changes      int           `json:"changes"` // of the target
	Turns        int           `json:"turns"`   // changes that go the other way than the one before
	MinTarget    int           `json:"min_target"`
	MaxTarget    int           `json:"max_target"`
	ReplicaHours float64       `json:"replica_hours"` // of replicas that run or start
	Short        float64       `json:"short"`         // share of the time with more than target_ongoing_requests for each running replica
	Queue        *QueueSummary `json:"queue,omitempty"`
}

// QueueSummary is what befell the requests of a simulated trace. Waits count
// those that were never rejected; of one that still waits at the end, until then.
type QueueSummary struct {
	Requests int     `json:"requests"` // that came
	Rejected int     `json:"rejected"` // by max_queued_requests
	Waiting  int     `json:"waiting"`  // still, at the end
	WaitP50  float64 `json:"wait_p50"` // seconds from coming until a replica takes it
	WaitP99  float64 `json:"wait_p99"`
}

// tally sums up a run while it goes.
type tally struct {
	perReplica float64
	seconds    float64
	short      float64 // seconds
	replicas   float64 // times seconds
	direction  int     // of the last change
	wanted     bool    // target is set
	target     int
	now        time.Duration
	width      time.Duration // of a bucket
	buckets    []bucket
	out        Summary
}

// bucket is the load of a part of the run.
type bucket struct{ integral, seconds float64 }

func newTally(perReplica float64, until time.Duration) tally {
	return tally{
		perReplica: perReplica, width: until/replayPicturePoints + 1,
		buckets: make([]bucket, replayPicturePoints),
	}
}

// pass adds a stretch in which nothing changed.
func (t *tally) pass(length time.Duration, load float64, running, starting int) {
	if length <= 0 {
		return
	}
	seconds := length.Seconds()
	t.seconds += seconds
	t.replicas += seconds * float64(running+starting)
	if load > t.perReplica*float64(running) {
		t.short += seconds
	}
	for end := t.now + length; t.now < end; {
		i := int(t.now / t.width)
		next := min(end, time.Duration(i+1)*t.width)
		part := (next - t.now).Seconds()
		b := &t.buckets[min(i, len(t.buckets)-1)]
		b.integral, b.seconds = b.integral+part*load, b.seconds+part
		t.now = next
	}
}

// wants notes a target.
func (t *tally) wants(target int) {
	if !t.wanted {
		t.wanted, t.target, t.out.MinTarget, t.out.MaxTarget = true, target, target, target
		return
	}
	direction := 1
	if target < t.target {
		direction = -1
	}
	t.out.Changes++
	if t.direction == -direction {
		t.out.Turns++
	}
	t.direction, t.target = direction, target
	t.out.MinTarget, t.out.MaxTarget = min(t.out.MinTarget, target), max(t.out.MaxTarget, target)
}

func (t *tally) summary() Summary {
	t.out.ReplicaHours = t.replicas / time.Hour.Seconds()
	if t.seconds > 0 {
		t.out.Short = t.short / t.seconds
	}
	return t.out
}

// picture is the mean load of each part of the run.
func (t *tally) picture() []Point {
	var points []Point
	for i, b := range t.buckets {
		if b.seconds > 0 {
			points = append(points, Point{At: time.Duration(i) * t.width, Value: b.integral / b.seconds})
		}
	}
	return points
}
