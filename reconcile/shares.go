package reconcile

// crew is the replicas of one version of a deployment, as they are and as they
// are to be while versions change.
type crew struct {
	role     role
	target   int // how many the version is to have when it is alone
	have     int // of its job
	unplaced int // of these: Nomad has no room for them
	healthy  int // pass their checks

	count int  // is to have now
	takes bool // requests go to those that pass
}

// pace is how fast a rolling change may go.
type pace struct {
	surge       int  // percent of the replicas that may run beside them
	unavailable int  // percent of them that may be missing
	all         bool // beyond the first ones
	held        bool // a rolling change starts no more, and what serves keeps what it has
	blind       bool // how the replicas are is not known: nothing is taken away
}

// share sets how many replicas each crew of a lane is to have that needs so
// many in all. The crews come in the order of lane.layers: what is needed is
// filled from the first to the last, and whoever comes later goes as those
// before it pass.
func share(crews []*crew, needed int, p pace) {
	rest := needed
	var fresh *crew
	for _, c := range crews {
		switch c.role {
		case roleNew:
			fresh = c
			rest -= floorOf(c.target, p.unavailable)
			if p.all {
				rest -= c.healthy
			}
			rest = max(0, rest)
			continue
		case roleHolds, roleLeaves:
			c.count = c.keep(min(rest, c.have))
		case roleFailed:
			// Half of the capacity that is good serves better than all of it
			// with this.
			c.count = min(max(0, rest-needed/2), c.have)
		case roleServes:
			c.count = c.keep(min(rest, c.target))
		}
		if p.blind || p.held && c.role == roleServes {
			c.count = max(c.count, min(c.have, c.target))
		}
		c.takes = c.count > 0 || c.role == roleServes
		rest = max(0, rest-min(c.count, c.healthy))
	}
	if fresh != nil {
		fresh.count, fresh.takes = begin(fresh, crews, needed, p), true
	}
}

// keep returns how many replicas a crew must have so that of those that pass at
// least n are left: Nomad chooses which ones go.
func (c *crew) keep(n int) int {
	if n == 0 {
		return 0
	}
	return max(n, min(c.have, n+c.have-c.healthy))
}

// begin is how many replicas a version is to have that takes over within its
// lane: as many as may run beside the others.
func begin(fresh *crew, crews []*crew, needed int, p pace) int {
	if fresh.target == 0 {
		return 0
	}
	surge := percentOf(fresh.target, p.surge)
	room := max(1, surge+floorOf(fresh.target, p.unavailable))
	if p.all {
		others := 0
		for _, c := range crews {
			if c != fresh {
				// Those that do not pass are no capacity; they may be dead.
				others += min(c.count, c.healthy)
			}
		}
		room = max(1, max(fresh.target, needed)+surge-others)
	}
	if p.held {
		room = 0
	}
	return min(fresh.target, max(room, fresh.have))
}

// percentOf returns the percent of n, rounded up.
func percentOf(n, percent int) int { return (n*percent + 99) / 100 }

// floorOf returns the percent of n, rounded down.
func floorOf(n, percent int) int { return n * percent / 100 }
