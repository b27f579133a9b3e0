package nodescale_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/placement"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// deployOf is what plan asks of replicas that a deploy would start.
func (s *scene) deployOf(a placement.Ask) placement.Ask {
	s.Jobs[a.Job] = nodescale.Job{Application: "app", Deployment: a.Job, Ask: a}
	a.Key = "deploy of " + a.Job
	return a
}

// byHand puts a node of 9000 MiB into the scene that nobody ordered, with a
// replica of each job that is named.
func (s *scene) byHand(jobs ...string) *placement.Node {
	n := s.node("cpu", jobs...)
	delete(s.Records, n.Said.Launch)
	n.Name, n.Said.Launch, n.Room.MemoryMB = "byhand", "", 9000
	return n
}

func TestForesee(t *testing.T) {
	large := ask("ranker", "cpu", 1)
	large.Uses.MemoryMB = 8192
	type outlook struct {
		more   int // nodes of the group
		short  int
		never  bool
		reason string
		coming bool
	}
	for name, c := range map[string]struct {
		scene func(*scene)
		ask   placement.Ask
		group func(*appspec.WorkerGroup)
		want  outlook
	}{
		"on nodes that are there":         {scene: func(s *scene) { s.node("cpu") }, ask: ask("ranker", "cpu", 4)},
		"on new nodes":                    {ask: ask("ranker", "cpu", 9), want: outlook{more: 3, coming: true}},
		"beside what there is":            {scene: func(s *scene) { s.node("cpu", "a", "b") }, ask: ask("ranker", "cpu", 3), want: outlook{more: 1, coming: true}},
		"beside what waits already":       {scene: func(s *scene) { s.job("a", "cpu", 4, 4) }, ask: ask("ranker", "cpu", 4), want: outlook{more: 1, coming: true}},
		"more than max_nodes":             {ask: ask("ranker", "cpu", 22), want: outlook{more: 5, short: 2, coming: true, reason: "5 nodes more"}},
		"in a pool that has no group":     {ask: ask("ranker", "other", 1), want: outlook{short: 1, never: true, reason: "no worker group has nodes in node pool other"}},
		"larger than a node of the group": {ask: large, want: outlook{short: 1, never: true, reason: "memory"}},
		"larger than new nodes, not than one that is there and full": {
			scene: func(s *scene) { s.byHand("a", "b", "c", "d") },
			ask:   large, want: outlook{short: 1, reason: "0 of 4000 MHz free"},
		},
		"larger than new nodes, not than one that is closed": {
			scene: func(s *scene) {
				n := s.byHand()
				n.Closed, n.Said.Draining = "draining", true
			},
			ask: large, want: outlook{short: 1, reason: "memory"},
		},
		"of a group that only tells": {
			ask: ask("ranker", "cpu", 4), group: func(g *appspec.WorkerGroup) { g.DryRun = true },
			want: outlook{more: 1, short: 4, coming: true, reason: "dry run"},
		},
		"while launches fail": {
			scene: func(s *scene) {
				s.Groups["cpu"].Failures = raftstate.Failures{Count: 3, LastAt: s.Now, Reason: "quota"}
			},
			ask: ask("ranker", "cpu", 4), want: outlook{short: 4, reason: "launches fail"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			change := []func(*appspec.WorkerGroup){}
			if c.group != nil {
				change = append(change, c.group)
			}
			s := newScene(t, cpuGroup(change...))
			if c.scene != nil {
				c.scene(s)
			}
			o := nodescale.Foresee(s.Input, []placement.Ask{s.deployOf(c.ask)})
			got := outlook{coming: o.Coming[c.ask.Job]}
			for _, g := range o.Groups {
				got.more += g.More
				if g.Name != "cpu" || g.Most != 5 || g.Have != len(s.Nodes) || g.DryRun != (c.group != nil) {
					t.Errorf("group %+v", g)
				}
			}
			for _, short := range o.Short {
				got.short, got.never, got.reason = got.short+short.Count, short.Never, short.Reason
				if short.Job != "ranker" || short.Application != "app" || short.Deployment != "ranker" {
					t.Errorf("short %+v", short)
				}
			}
			if !strings.Contains(got.reason, c.want.reason) {
				t.Errorf("the reason is %q, want %q in it", got.reason, c.want.reason)
			}
			got.reason, c.want.reason = "", ""
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(outlook{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// What is only foreseen leaves no trace, and what waits already is not told of.
func TestForeseeIsOfWhatIsAsked(t *testing.T) {
	s := newScene(t, cpuGroup())
	s.job("stuck", "nowhere", 2, 2)
	before := slices.Clone(s.Asks)
	o := nodescale.Foresee(s.Input, []placement.Ask{s.deployOf(ask("ranker", "cpu", 1))})
	if len(o.Short) != 0 || o.Coming["stuck"] || len(o.Groups) != 1 {
		t.Errorf("got %+v", o)
	}
	if d := cmp.Diff(before, s.Asks); d != "" {
		t.Error(d)
	}
}

// As many replicas as are asked for have a place or are said to have none, and
// the nodes foreseen are those that a decision then orders.
func TestForeseeAgreesWithTheDecision(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newScene(t, cpuGroup())
		for range rapid.IntRange(0, 3).Draw(rt, "nodes") {
			s.node("cpu", []string{"a", "b", "c", "d"}[:rapid.IntRange(0, 4).Draw(rt, "replicas")]...)
		}
		wanted := rapid.IntRange(1, 30).Draw(rt, "asked")
		o := nodescale.Foresee(s.Input, []placement.Ask{s.deployOf(ask("ranker", "cpu", wanted))})
		s.job("ranker", "cpu", wanted, wanted)
		ordered := 0
		for _, change := range s.after(500 * time.Millisecond).Changes {
			if change.To == raftstate.NodeLaunching {
				ordered++
			}
		}
		foreseen := 0
		for _, g := range o.Groups {
			foreseen += g.More
		}
		if foreseen != ordered {
			rt.Fatalf("%d nodes are foreseen, %d ordered", foreseen, ordered)
		}
	})
}

func TestTheWorseOfTwoOutlooks(t *testing.T) {
	a := nodescale.Outlook{
		Groups: []nodescale.GroupOutlook{{Name: "b", More: 2}, {Name: "c", More: 1}},
		Short:  []nodescale.ShortOutlook{{Job: "x", Count: 1}, {Job: "y", Count: 5}},
		Coming: map[string]bool{"p": true},
	}
	b := nodescale.Outlook{
		Groups: []nodescale.GroupOutlook{{Name: "a", More: 7}, {Name: "b", More: 3}},
		Short:  []nodescale.ShortOutlook{{Job: "x", Count: 4, Never: true}, {Job: "z", Count: 2}},
		Coming: map[string]bool{"q": true},
	}
	want := nodescale.Outlook{
		Groups: []nodescale.GroupOutlook{{Name: "a", More: 7}, {Name: "b", More: 3}, {Name: "c", More: 1}},
		Short:  []nodescale.ShortOutlook{{Job: "x", Count: 4, Never: true}, {Job: "y", Count: 5}, {Job: "z", Count: 2}},
		Coming: map[string]bool{"p": true, "q": true},
	}
	if d := cmp.Diff(want, a.Or(b)); d != "" {
		t.Error(d)
	}
	if a.Groups[0].More != 2 || len(a.Coming) != 1 {
		t.Error("what was there before is changed")
	}
}
