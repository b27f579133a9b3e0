package nodescale

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// SimInput is a cluster to be simulated: what Decide, by the code that the
// servers run, would make of it.
type SimInput struct {
	Start  time.Time     // on the clock, for schedules and windows
	Until  time.Duration // how long the run is
	Groups []SimGroup
	Jobs   []SimJob
	Demand []SimDemand // in order of time
	Faults []SimFault
	Others []SimOther
	People []SimCommand

	// Look is how old what a decision was made from is by the time that the
	// decision takes effect. 0: 200 ms.
	Look   time.Duration
	Anyway time.Duration // between decisions at most; 0: only when something changed or is due
	Sample time.Duration // between two points of SimResult.Over; 0: none are kept

	Chance    *rand.Rand
	Stopwatch func() time.Duration          // measures decisions; nil: they are not measured
	Check     func() error                  // asked now and then; an error ends the run; nil: nobody
	Tell      func(time.Duration, string)   // hears of all that happens; nil: nobody
	Judge     func(Input, Memory, Decision) // sees each decision; nil: nobody
}

// SimGroup is a worker group and what its target is like.
type SimGroup struct {
	Spec    *appspec.WorkerGroup
	CoreMHz int           // that a core counts for; 0: 1000
	Answer  SimDelay      // until the target answers a call
	Launch  SimDelay      // from the call until the node is ready in Nomad
	Remove  time.Duration // from the answer until the machine is gone
	Fails   float64       // share of launches that the target refuses
	Strays  float64       // share of machines that never join
	Hangs   float64       // share of calls that are never answered, and do nothing
	Life    time.Duration // after which a machine is taken away, in the mean; 0: none is
	ByHand  int           // nodes there from the start that nobody ordered
}

// SimDelay is a time that differs from one case to the next: evenly, between
// Mean-Spread and Mean+Spread.
type SimDelay struct{ Mean, Spread time.Duration }

// SimJob is a deployment's Nomad job. Its id is Ask.Job.
type SimJob struct {
	Application string
	Deployment  string
	Group       string        // worker group that it names: it gets a new version when that gets another shape; "": none
	Ask         placement.Ask // of one replica
	Start       SimDelay      // from its place until it serves
	Stop        time.Duration // from the order to stop until its room is free
}

// SimDemand says how many replicas of a job there are to be from a moment on.
type SimDemand struct {
	At       time.Duration
	Job      string
	Replicas int
}

// SimFault is something that goes wrong.
type SimFault struct {
	At   time.Duration
	Kind SimFaultKind
	For  time.Duration // of hold and blind: how long
	Jump time.Duration // of clock: how far, either way
}

// SimFaultKind is what goes wrong.
type SimFaultKind string

// The kinds of faults.
const (
	SimLeader SimFaultKind = "leader" // another server leads: what the old one had in memory is lost
	SimHold   SimFaultKind = "hold"   // Consul does not answer
	SimBlind  SimFaultKind = "blind"  // Nomad does not answer: nothing is known of nodes and jobs
	SimClock  SimFaultKind = "clock"  // the clock jumps
)

// SimOther is an allocation of somebody else's job, which Nomad places on some
// node of a group that has room, or drops if none has.
type SimOther struct {
	At       time.Duration
	For      time.Duration
	Group    string
	CPU      int // MHz
	MemoryMB int
}

// SimCommand is what somebody has the servers do: deploy a worker group anew, or
// delete one.
type SimCommand struct {
	At      time.Duration
	Command raftstate.Command
}

// How quick Nomad and the servers are. The controller's own limits are the same.
const (
	simLook       = 200 * time.Millisecond
	simLeast      = 10 * time.Millisecond  // between two decisions
	simReconcile  = 100 * time.Millisecond // from a new target until Nomad's job has it
	simPlace      = 50 * time.Millisecond  // until Nomad has placed what there is room for
	simAct        = 50 * time.Millisecond  // that a call of Nomad takes
	simActAgain   = 3 * time.Second        // before the same call of Nomad is made again
	simHeartbeat  = 20 * time.Second       // until Nomad calls a node down that ended
	simHealthy    = time.Second            // for which a replica must serve before a drain goes on
	simListEvery  = 30 * time.Second       // between two questions to a target what there is
	simCalls      = 10                     // of one group's target at once
	simRemoveWait = 5 * time.Minute        // after which a removal that hangs has failed
	simCheckEvery = 4096                   // events between two calls of Check
)

// Simulate runs a cluster from its beginning, when there is nothing but the
// nodes that were put there by hand, and says what came of it. Time passes from
// event to event, so a day takes seconds or minutes.
func Simulate(in SimInput) (SimResult, error) {
	s, err := newSimulation(in)
	if err != nil {
		return SimResult{}, err
	}
	for i := 0; len(s.events) > 0 && s.events[0].at <= s.in.Until; i++ {
		if i%simCheckEvery == 0 && s.in.Check != nil {
			if err := s.in.Check(); err != nil {
				return SimResult{}, err
			}
		}
		e := s.events.pop()
		s.pass(e.at)
		e.do()
	}
	s.pass(s.in.Until)
	return s.finish(), nil
}

// check refuses what cannot be simulated.
func (in *SimInput) check() error {
	if in.Chance == nil {
		return errors.New("a simulation needs a source of chance")
	}
	if in.Until <= 0 {
		return errors.New("a simulation needs a time until which it runs")
	}
	groups, jobs := map[string]bool{}, map[string]bool{}
	for _, g := range in.Groups {
		if g.Spec == nil || g.Spec.Name == "" || groups[g.Spec.Name] {
			return errors.New("each worker group of a simulation needs a spec with a name of its own")
		}
		groups[g.Spec.Name] = true
	}
	for i := range in.Jobs {
		if name := in.Jobs[i].Group; name != "" && !groups[name] {
			return fmt.Errorf("job %q names worker group %q, which is not simulated", in.Jobs[i].Ask.Job, name)
		}
		if id := in.Jobs[i].Ask.Job; id == "" || jobs[id] {
			return fmt.Errorf("each job of a simulation needs an id of its own, unlike %q", id)
		}
		jobs[in.Jobs[i].Ask.Job] = true
	}
	for i, d := range in.Demand {
		switch {
		case !jobs[d.Job]:
			return fmt.Errorf("the load is for job %q, which is not simulated", d.Job)
		case d.Replicas < 0:
			return fmt.Errorf("the load at %s asks for %d replicas of job %q", d.At, d.Replicas, d.Job)
		case i > 0 && d.At < in.Demand[i-1].At:
			return fmt.Errorf("the load goes back in time, from %s to %s", in.Demand[i-1].At, d.At)
		}
	}
	return nil
}
