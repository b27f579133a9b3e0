package raftstate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// group is a worker group of up to four nodes.
func group(name string, change ...func(*appspec.WorkerGroup)) *appspec.WorkerGroup {
	g := &appspec.WorkerGroup{
		Name: name, NodePool: name, MaxNodes: 4, Target: appspec.NodeTarget{Kind: appspec.TargetNone},
		Node: appspec.NodeShape{CPU: 4, MemoryMB: 1024}, LaunchTimeout: appspec.Duration(time.Minute),
	}
	for _, c := range change {
		c(g)
	}
	return g
}

func inPool(pool, class string) func(*appspec.WorkerGroup) {
	return func(g *appspec.WorkerGroup) { g.NodePool, g.Node.Class = pool, class }
}

func most(n int) func(*appspec.WorkerGroup) {
	return func(g *appspec.WorkerGroup) { g.MaxNodes = n }
}

func deployGroups(groups ...*appspec.WorkerGroup) Command {
	c := Command{By: "ada", Deploy: &Deploy{}}
	for _, g := range groups {
		c.Deploy.WorkerGroups = append(c.Deploy.WorkerGroups, DeployWorkerGroup{Spec: g})
	}
	return c
}

func deployGroupIf(g *appspec.WorkerGroup, index uint64) Command {
	c := deployGroups(g)
	c.Deploy.WorkerGroups[0].CheckIndex = &index
	return c
}

// with adds the applications of another deploy to one.
func with(c, other Command) Command {
	both := *c.Deploy
	both.Applications = other.Deploy.Applications
	c.Deploy = &both
	return c
}

// in is an application whose deployment "web" names a worker group.
func in(app, group string) *appspec.Application {
	a := spec(app, "web")
	a.Deployments[0].WorkerGroup = group
	return a
}

func removeGroup(name string) Command {
	return Command{By: "ada", DeleteWorkerGroup: &DeleteWorkerGroup{WorkerGroup: name}}
}

func forgetGroup(name string) Command {
	return Command{ForgetWorkerGroup: &ForgetWorkerGroup{WorkerGroup: name}}
}

func TestWorkerGroups(t *testing.T) {
	idle := group("g")
	idle.IdleTimeout = appspec.Duration(time.Hour)
	labelled := group("g")
	labelled.Labels = map[string]string{"zone": "a"}
	for name, test := range map[string]struct {
		log  []Command
		want string // of group "g"
	}{
		"one is deployed":                        {[]Command{deployGroups(group("g"))}, "created 1 modified 1"},
		"beside an application that names it":    {[]Command{with(deployGroups(group("g")), deploy(in("a", "g"), "1"))}, "created 1 modified 1"},
		"the same again changes nothing":         {[]Command{deployGroups(group("g")), deployGroups(group("g"))}, "created 1 modified 1"},
		"though it has nodes":                    {[]Command{deployGroups(group("g")), nodeChanges(launch("g", 1)), deployGroups(group("g"))}, "created 1 modified 1"},
		"bounds change while it has nodes":       {[]Command{deployGroups(group("g")), nodeChanges(launch("g", 1)), deployGroups(group("g", most(9)))}, "created 1 modified 3 launched 1"},
		"timeouts too":                           {[]Command{deployGroups(group("g")), nodeChanges(launch("g", 1)), deployGroups(idle)}, "created 1 modified 3 launched 1"},
		"without nodes all changes":              {[]Command{deployGroups(group("g")), deployGroups(labelled)}, "created 1 modified 2"},
		"and again when they are gone":           {append(gone("g", 1), deployGroups(labelled)), "created 1 modified 5 launched 1"},
		"its pool, while nobody is to run there": {[]Command{deployGroups(group("g")), deploy(spec("a", "web"), "1"), deployGroups(group("g", inPool("p", "")))}, "created 1 modified 3"},
		"a check index that holds":               {[]Command{deployGroupIf(group("g"), 0), deployGroupIf(group("g", most(9)), 1)}, "created 1 modified 2"},
		"deletion only marks":                    {[]Command{deployGroups(group("g")), removeGroup("g")}, "created 1 modified 2 deleting"},
		"forgetting ends it":                     {[]Command{deployGroups(group("g")), removeGroup("g"), forgetGroup("g")}, "none"},
		"then it may be deployed again":          {[]Command{deployGroups(group("g")), removeGroup("g"), forgetGroup("g"), deployGroups(labelled)}, "created 4 modified 4"},
		"deletion of an application frees it":    {[]Command{with(deployGroups(group("g")), deploy(in("a", "g"), "1")), remove("a"), removeGroup("g")}, "created 1 modified 3 deleting"},
		"two on one pool, of two classes":        {[]Command{deployGroups(group("g", inPool("p", "x")), group("h", inPool("p", "y")))}, "created 1 modified 1"},
		"two of one class on two pools":          {[]Command{deployGroups(group("g", inPool("p", "x")), group("h", inPool("q", "x")))}, "created 1 modified 1"},
		"node_pool beside it, if they agree":     {[]Command{with(deployGroups(group("g")), deploy(pooled("g"), "1"))}, "created 1 modified 1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := run(t, test.log)
			if r.Err() != nil {
				t.Fatalf("refused: %v", r.Err())
			}
			if got := groupSketch(s, "g"); !strings.HasPrefix(got, test.want) || test.want == "none" && got != "none" {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// pooled is an application whose deployment names group "g" and a node pool.
func pooled(pool string) *appspec.Application {
	a := in("a", "g")
	a.Deployments[0].NodePool = pool
	return a
}

func groupSketch(s *State, name string) string {
	g := s.WorkerGroups[name]
	if g == nil {
		return "none"
	}
	line := fmt.Sprintf("created %d modified %d", g.CreateIndex, g.ModifyIndex)
	if g.Deleting {
		line += " deleting"
	}
	if g.Usage.Launched > 0 {
		line += fmt.Sprintf(" launched %d", g.Usage.Launched)
	}
	return line
}

func TestWorkerGroupsAreRefused(t *testing.T) {
	have := deployGroups(group("g"))
	used := with(have, deploy(in("a", "g"), "1"))
	moved := group("g", inPool("p", ""))
	reshaped := group("g")
	reshaped.Node.GPU = 1
	hole := group("g")
	hole.Schedules = []*appspec.NodeSchedule{nil}
	nodeless := gone("g", 1)
	for name, test := range map[string]struct {
		log  []Command
		code ErrorCode
		says string
	}{
		"without a spec":                      {[]Command{{Deploy: &Deploy{WorkerGroups: []DeployWorkerGroup{{}}}}}, CodeInvalid, "needs a spec with a name"},
		"without a pool":                      {[]Command{deployGroups(group("g", inPool("", "")))}, CodeInvalid, "needs a node_pool"},
		"with a hole":                         {[]Command{deployGroups(hole)}, CodeInvalid, "holds nothing"},
		"with bounds that cross":              {[]Command{deployGroups(group("g", most(-1)))}, CodeInvalid, "cannot have 0 to -1 nodes"},
		"twice":                               {[]Command{deployGroups(group("g"), group("g"))}, CodeInvalid, "twice"},
		"over what must not exist":            {[]Command{have, deployGroupIf(group("g", most(9)), 0)}, CodeConflict, "its index is 1, not 0 (by ada)"},
		"over what must exist":                {[]Command{deployGroupIf(group("g"), 3)}, CodeConflict, "its index is 0, not 3"},
		"while it is being deleted":           {[]Command{have, removeGroup("g"), have}, CodeConflict, "is being deleted: deploy it again once its nodes are gone"},
		"another shape, with a node":          {[]Command{have, nodeChanges(launch("g", 1)), deployGroups(reshaped)}, CodeConflict, "cannot change while it has 1 node"},
		"another shape, with one on its end":  {append(nodeless[:len(nodeless)-1:len(nodeless)-1], deployGroups(reshaped)), CodeConflict, "while it has 1 node"},
		"another pool, with a deployment":     {[]Command{used, deployGroups(moved)}, CodeConflict, `node_pool cannot change from "g" to "p" while deployments look for its nodes there: a/web`},
		"another class, with a deployment":    {[]Command{used, deployGroups(group("g", inPool("g", "x")))}, CodeConflict, "the class of its nodes cannot change"},
		"another pool, with one that serves":  {[]Command{used, end("a", 1, RolloutSuccessful), deploy(spec("a", "web"), "2"), deployGroups(moved)}, CodeConflict, "a/web"},
		"two on one pool":                     {[]Command{deployGroups(group("g", inPool("p", "")), group("h", inPool("p", "")))}, CodeConflict, `worker groups "g" and "h" share node pool "p"`},
		"two on one pool, one with a class":   {[]Command{deployGroups(group("g", inPool("p", "")), group("h", inPool("p", "x")))}, CodeConflict, "a class of its own"},
		"and the other one":                   {[]Command{deployGroups(group("g", inPool("p", "x")), group("h", inPool("p", "")))}, CodeConflict, "a class of its own"},
		"two on one pool, of one class":       {[]Command{deployGroups(group("g", inPool("p", "x")), group("h", inPool("p", "y")), group("i", inPool("p", "x")))}, CodeConflict, `"g" and "i"`},
		"on the pool of one from before":      {[]Command{have, deployGroups(group("h", inPool("g", "")))}, CodeConflict, `"g" and "h"`},
		"on the pool of one that goes":        {[]Command{have, removeGroup("g"), deployGroups(group("h", inPool("g", "")))}, CodeConflict, `"g" (which is being deleted) and "h"`},
		"a delete of none":                    {[]Command{removeGroup("g")}, CodeNotFound, `no worker group "g"`},
		"a second delete":                     {[]Command{have, removeGroup("g"), removeGroup("g")}, CodeNotFound, `no worker group "g"`},
		"a delete while deployments name it":  {[]Command{used, deploy(in("b", "g"), "1"), removeGroup("g")}, CodeConflict, "in use: a/web, b/web"},
		"a delete while one that serves does": {[]Command{used, end("a", 1, RolloutSuccessful), deploy(spec("a", "web"), "2"), removeGroup("g")}, CodeConflict, "in use: a/web"},
		"forgetting what is not deleted":      {[]Command{have, forgetGroup("g")}, CodeConflict, "not being deleted"},
		"forgetting what has nodes":           {[]Command{have, nodeChanges(launch("g", 1)), removeGroup("g"), forgetGroup("g")}, CodeConflict, "still has 1 node"},
		"an application in no group":          {[]Command{deploy(in("a", "g"), "1")}, CodeConflict, `deployment "web" of application "a" names worker group "g", and there is no worker group`},
		"an application in another one":       {[]Command{have, deploy(in("a", "h"), "1")}, CodeConflict, "which there is not; there are g"},
		"an application in one that goes":     {[]Command{have, removeGroup("g"), deploy(in("a", "g"), "1")}, CodeConflict, "which is being deleted"},
		"an application back in one that went": {
			[]Command{used, remove("a"), removeGroup("g"), deploy(in("a", "g"), "1")}, CodeConflict, "which is being deleted",
		},
		"an application in two places": {[]Command{have, deploy(pooled("h"), "1")}, CodeInvalid, `node pool "g", and node_pool "h"`},
		"in a group and anywhere":      {[]Command{have, deploy(pooled("all"), "1")}, CodeInvalid, "leave one of them out"},
		"a group with an application that is refused": {
			[]Command{with(deployGroups(group("g")), deployIf(in("a", "g"), "1", new(uint64(7))))}, CodeConflict, "its index is 0, not 7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			before, r := run(t, test.log[:len(test.log)-1])
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			after, r := run(t, test.log)
			if r.Code != test.code || !strings.Contains(r.Error, test.says) {
				t.Fatalf("got %q: %q, want %q with %q", r.Code, r.Error, test.code, test.says)
			}
			before.Index, before.Recent, after.Index, after.Recent = 0, nil, 0, nil
			if diff := cmp.Diff(encoded(t, before), encoded(t, after)); diff != "" {
				t.Errorf("a refused command changed the State:\n%s", diff)
			}
		})
	}
}

func TestEventsOfWorkerGroups(t *testing.T) {
	c := deployGroups(group("g"))
	c.Deploy.Message = "for the sale"
	s, _ := run(t, []Command{c, removeGroup("g"), forgetGroup("g")})
	var got []string
	for _, e := range s.Events {
		got = append(got, fmt.Sprintf("%s %s: %s", e.Type, e.WorkerGroup, e.Message))
	}
	want := []string{
		"group-deployed g: 0 to 4 nodes of node pool g: for the sale",
		"group-deleting g: its nodes drain and go",
		"group-deleted g: it has no node left",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
