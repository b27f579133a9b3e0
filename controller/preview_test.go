package controller_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/controller"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// estate is a fake with nodes that nobody looks at without need, as there is no
// worker group.
type estate struct {
	*fake
	nodes   []*placement.Node
	pools   map[string]bool
	noNodes error          // why they are not told
	problem string         // what Nomad says of each job
	planned map[string]int // command -> replicas that Nomad was asked about
}

func (e *estate) Observe(ctx context.Context, nodes bool) (reconcile.Observation, error) {
	seen, err := e.fake.Observe(ctx, nodes)
	if nodes {
		seen.NodesKnown, seen.Nodes, seen.Pools = true, e.nodes, e.pools
		err = errors.Join(err, e.noNodes)
	}
	return seen, err
}

func (e *estate) Plan(_ context.Context, job *api.Job) (string, error) {
	_, count, _ := jobspec.Read(job)
	e.planned[commandOf(job)] = count
	return e.problem, nil
}

func commandOf(job *api.Job) string {
	command, _ := job.TaskGroups[0].Tasks[0].Config["command"].(string)
	return command
}

// memories is how much a replica asks for, by its command, in MiB.
func memories(by map[string]int) controller.AskOf {
	return func(job *api.Job) (placement.Ask, error) {
		memory, known := by[commandOf(job)]
		if !known {
			return placement.Ask{}, errors.New("it asks for something odd")
		}
		return placement.Ask{TaskGroup: "till", Pool: "default", Uses: placement.Resources{CPU: 100, MemoryMB: memory}}, nil
	}
}

// newEstate has the shop running as v1, two replicas of 512 MiB, which run on the
// node that is named, and the nodes with so much memory.
func newEstate(t *testing.T, on string, nodes map[string]int) (*estate, *controller.Controller) {
	t.Helper()
	e := &estate{fake: newFake(), planned: map[string]int{}}
	for name, memory := range nodes {
		n := &placement.Node{
			ID: name, Name: name, Pool: "default", Datacenter: "dc1", Room: placement.Resources{CPU: 10_000, MemoryMB: memory},
			Said: placement.Said{Status: "ready", Eligible: true},
		}
		if name == on {
			for _, id := range []string{"a", "b"} {
				n.Allocs = append(n.Allocs, placement.Alloc{
					ID: id, Job: jobOf("v1"), Group: "till", Ours: true, Movable: true, Uses: placement.Resources{CPU: 100, MemoryMB: 512},
				})
			}
		}
		e.nodes = append(e.nodes, n)
	}
	c := controller.New(controller.Config{
		Raft: e, Jobs: e, Discovery: e, NewID: e.newID,
		Settings: reconcile.Settings{Placement: jobspec.Placement{NodePool: "default"}},
		AskOf:    memories(map[string]int{"v1": 512, "v2": 512, "large": 1100, "huge": 5000}),
	})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go c.Run(ctx)
	go func() {
		if err := c.Lead(ctx); err != nil {
			t.Errorf("lead: %v", err)
		}
	}()
	settle()
	e.propose(t, rolling("v1"))
	settle()
	return e, c
}

func rolling(command string) raftstate.Command {
	c := deploy(command)
	c.Deploy.Rollouts = 1
	return c
}

func jobOf(command string) string {
	in := deploy(command).Deploy.Applications[0]
	return jobspec.JobID("shop", "till", in.Hashes["till"])
}

func TestRoom(t *testing.T) {
	type found struct {
		short  int
		never  bool
		doubts int
	}
	for name, c := range map[string]struct {
		nodes   map[string]int // the shop runs on "one"
		command string
		problem string
		want    found
		planned int // replicas that Nomad was asked about
	}{
		"there is for one replica more":            {map[string]int{"one": 1536}, "v2", "", found{}, 2},
		"there is none for one more":               {map[string]int{"one": 1535}, "v2", "", found{short: 1}, 0},
		"there is once the old ones are gone":      {map[string]int{"one": 2200}, "large", "", found{}, 2},
		"there is at the peak, and in the end too": {map[string]int{"one": 2200, "two": 1100}, "large", "", found{}, 2},
		"there is at the peak, but not in the end": {map[string]int{"one": 1030, "two": 1100}, "large", "", found{short: 1}, 0},
		"there can be none":                        {map[string]int{"one": 2048, "two": 4096}, "huge", "", found{short: 2, never: true}, 0},
		"Nomad sees something else":                {map[string]int{"one": 9000}, "v2", "till: a kernel is missing", found{doubts: 1}, 2},
		"what cannot be weighed is for Nomad":      {map[string]int{"one": 1}, "odd", "till: no room", found{doubts: 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, leader := newEstate(t, "one", c.nodes)
				e.problem = c.problem
				looks, writes := e.lookCount(), e.calls()
				steps, err := leader.Preview(rolling(c.command))
				if err != nil {
					t.Fatal(err)
				}
				outlook, doubts, err := leader.Room(t.Context(), rolling(c.command), steps)
				if err != nil {
					t.Fatal(err)
				}
				got := found{doubts: len(doubts)}
				for _, s := range outlook.Short {
					got.short, got.never = got.short+s.Count, s.Never
					if s.Job != jobOf(c.command) || s.Application != "shop" || s.Deployment != "till" || s.Reason == "" {
						t.Errorf("short: %+v", s)
					}
				}
				if d := cmp.Diff(c.want, got, cmp.AllowUnexported(found{})); d != "" {
					t.Errorf("%s\n%+v", d, outlook)
				}
				if n := e.planned[c.command]; n != c.planned {
					t.Errorf("Nomad was asked about %d replicas, want %d", n, c.planned)
				}
				if c.problem != "" && !strings.Contains(strings.Join(doubts, ""), c.problem) {
					t.Errorf("the doubts are %q", doubts)
				}
				if e.lookCount() != looks+1 || e.calls() != writes {
					t.Errorf("%d looks, %d writes", e.lookCount()-looks, e.calls()-writes)
				}
			})
		})
	}
}

// A deployment for which no job can be made has no step that would tell.
func TestRoomInANodePoolThatIsNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*estate, *appspec.Deployment)
		never  bool
		says   string
	}{
		"that nobody makes": {
			func(_ *estate, d *appspec.Deployment) { d.NodePool = "nowhere" }, true, `no node pool "nowhere"`,
		},
		"that has no node which is ready": {
			func(e *estate, d *appspec.Deployment) { d.NodePool, e.pools = "empty", map[string]bool{"empty": true} }, false, `no node of pool "empty" is ready`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, leader := newEstate(t, "one", map[string]int{"one": 4096})
				command := rolling("v2")
				c.change(e, command.Deploy.Applications[0].Spec.Deployments[0])
				steps, err := leader.Preview(command)
				if err != nil {
					t.Fatal(err)
				}
				outlook, _, err := leader.Room(t.Context(), command, steps)
				if err != nil || len(outlook.Short) != 1 {
					t.Fatalf("got %+v, %v", outlook, err)
				}
				s := outlook.Short[0]
				if s.Never != c.never || s.Count != 2 || !strings.HasPrefix(s.Job, "serve-shop-till-") || s.Deployment != "till" || !strings.Contains(s.Reason, c.says) {
					t.Errorf("got %+v", s)
				}
			})
		})
	}
}

func TestRoomThatCannotBeTold(t *testing.T) {
	t.Run("nothing was seen yet", func(t *testing.T) {
		f := newFake()
		c := controller.New(controller.Config{Raft: f, Jobs: f, Discovery: f})
		_, err := c.Preview(rolling("v1"))
		_, _, roomErr := c.Room(t.Context(), rolling("v1"), nil)
		if !errors.Is(err, controller.ErrWorldUnknown) || !errors.Is(roomErr, controller.ErrWorldUnknown) {
			t.Errorf("got %v, %v", err, roomErr)
		}
	})
	t.Run("the nodes may not be seen", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e, c := newEstate(t, "one", map[string]int{"one": 4096})
			e.noNodes = errors.New("permission denied")
			if _, _, err := c.Room(t.Context(), rolling("v2"), nil); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("the command is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, c := newEstate(t, "one", map[string]int{"one": 4096})
			command := rolling("v2")
			command.Deploy.Applications[0].CheckIndex = new(uint64)
			_, err := c.Preview(command)
			_, _, roomErr := c.Room(t.Context(), command, nil)
			var refusal *raftstate.Refusal
			if !errors.As(err, &refusal) || !errors.As(roomErr, &refusal) {
				t.Errorf("got %v, %v", err, roomErr)
			}
		})
	})
}

// With a worker group, new nodes are part of the room.
func TestRoomOnNewNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := plantWith(t, 0, 3, time.Minute)
		p.lead(t)
		settle()
		command := rolling("v1")
		command.Deploy.Applications[0].Spec.Deployments[0].WorkerGroup = "cpu"
		command.Deploy.Applications[0].Spec.Deployments[0].NumReplicas = 4
		steps, err := p.leader.Preview(command)
		if err != nil {
			t.Fatal(err)
		}
		outlook, doubts, err := p.leader.Room(t.Context(), command, steps)
		if err != nil {
			t.Fatal(err)
		}
		want := nodescale.Outlook{
			Groups: []nodescale.GroupOutlook{{Name: "cpu", More: 3, Most: 3}},
			Coming: map[string]bool{jobOf("v1"): true},
		}
		short := outlook.Short
		outlook.Short = nil
		if d := cmp.Diff(want, outlook); d != "" || len(short) != 1 || short[0].Count != 1 || short[0].Never || len(doubts) != 0 {
			t.Errorf("%s\n%+v, %v", d, short, doubts)
		}
	})
}
