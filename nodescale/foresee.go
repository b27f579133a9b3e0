package nodescale

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/placement"
)

// Outlook is where replicas would run that nobody has asked for yet.
type Outlook struct {
	Groups []GroupOutlook  // those that would get nodes, by name
	Short  []ShortOutlook  // replicas without a place, in the order of what was asked
	Coming map[string]bool // jobs of which replicas wait for a node that is on its way or would be ordered
}

// GroupOutlook is the nodes that a worker group would order.
type GroupOutlook struct {
	Name     string `json:"name"`
	Have     int    `json:"nodes"` // that count towards Most
	More     int    `json:"more"`
	Most     int    `json:"max_nodes"`
	Outdated int    `json:"outdated,omitempty"` // nodes of an earlier shape, which go once nothing is left on them: beside Have
	DryRun   bool   `json:"dry_run,omitempty"`  // it would order them if it did more than tell
}

// ShortOutlook is replicas of one job without a place.
type ShortOutlook struct {
	Job         string            `json:"job"` // id
	Application string            `json:"application"`
	Deployment  string            `json:"deployment"`
	Count       int               `json:"count"`
	Never       bool              `json:"never"` // no node that there is could hold one, were it empty, and no new node of a worker group
	Reason      string            `json:"reason"`
	Groups      map[string]string `json:"worker_groups,omitempty"` // why each takes none
}

// Foresee says where replicas would run if they were asked for on top of what
// in asks for: on the nodes that there are and are on their way, and on how many
// new ones of which worker group. in.Jobs names their jobs.
func Foresee(in Input, more []placement.Ask) Outlook {
	in.Asks = slices.Concat(in.Asks, more)
	// Nodes that are down are not taken to be back in a moment, see backSoon.
	d := begin(in, Memory{Known: in.Now.Add(-backWithin)})
	d.demand()
	keys := map[string]bool{}
	for _, a := range more {
		keys[a.Key] = true
	}
	return Outlook{d.groupOutlooks(keys), d.shortOutlooks(keys), d.coming(keys)}
}

// Or is the worse of two outlooks, in each regard.
func (o Outlook) Or(other Outlook) Outlook {
	out := Outlook{slices.Clone(o.Groups), slices.Clone(o.Short), maps.Clone(o.Coming)}
	for _, g := range other.Groups {
		if i := slices.IndexFunc(out.Groups, func(have GroupOutlook) bool { return have.Name == g.Name }); i < 0 {
			out.Groups = append(out.Groups, g)
		} else if out.Groups[i].More < g.More {
			out.Groups[i] = g
		}
	}
	for _, s := range other.Short {
		if i := slices.IndexFunc(out.Short, func(have ShortOutlook) bool { return have.Job == s.Job }); i < 0 {
			out.Short = append(out.Short, s)
		} else if out.Short[i].Count < s.Count {
			out.Short[i] = s
		}
	}
	maps.Copy(out.Coming, other.Coming)
	slices.SortFunc(out.Groups, func(a, b GroupOutlook) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// coming finds the jobs that wait for nodes.
func (d *decider) coming(keys map[string]bool) map[string]bool {
	jobs := map[string]bool{}
	for _, p := range d.result.Placed {
		if a := &d.packed.Asks[p.Ask]; keys[a.Key] && d.packed.Nodes[p.Node].Imagined {
			jobs[a.Job] = true
		}
	}
	for i := range d.packed.Asks {
		a := &d.packed.Asks[i]
		for _, n := range d.result.New {
			if keys[a.Key] && n.Holds[a.Key] > 0 {
				jobs[a.Job] = true
			}
		}
	}
	return jobs
}

// groupOutlooks counts the new nodes that hold any of the asks.
func (d *decider) groupOutlooks(keys map[string]bool) []GroupOutlook {
	var list []GroupOutlook
	for i, g := range d.groups {
		o := GroupOutlook{Name: g.Name, Have: g.occupied(), Most: g.most, Outdated: g.outdated(), DryRun: g.dry}
		for _, n := range d.result.New {
			if n.Shape == i && holdsAny(n, keys) {
				o.More++
			}
		}
		if o.More > 0 {
			list = append(list, o)
		}
	}
	return list
}

func holdsAny(n placement.NewNode, keys map[string]bool) bool {
	for key := range n.Holds {
		if keys[key] {
			return true
		}
	}
	return false
}

func (d *decider) shortOutlooks(keys map[string]bool) []ShortOutlook {
	var list []ShortOutlook
	for _, s := range d.result.Short {
		a := &d.packed.Asks[s.Ask]
		if !keys[a.Key] {
			continue
		}
		list = append(list, ShortOutlook{
			Job: a.Job, Application: d.in.Jobs[a.Job].Application, Deployment: d.in.Jobs[a.Job].Deployment, Count: s.Count,
			Never: s.Never && !d.anyCouldHold(a), Reason: whyShort(s), Groups: s.Shapes,
		})
	}
	return list
}

// anyCouldHold says whether a node that Nomad knows could hold a replica, were
// it empty and open.
func (d *decider) anyCouldHold(a *placement.Ask) bool {
	return slices.ContainsFunc(d.in.Nodes, func(n *placement.Node) bool {
		empty := *n
		empty.Closed, empty.Allocs = "", nil
		return !placement.Fits(&empty, a).Refused()
	})
}

// whyShort says what the worker groups lack, and below it the nodes.
func whyShort(s placement.Short) string {
	reasons := slices.SortedFunc(maps.Keys(s.Nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.Nodes[b], s.Nodes[a]), cmp.Compare(a, b))
	})
	parts := []string{s.Headline}
	for i, reason := range reasons {
		if i == mostReasons {
			parts = append(parts, "and others")
			break
		}
		parts = append(parts, fmt.Sprintf("%s: %s", plural(s.Nodes[reason], "node"), reason))
	}
	return strings.Join(parts, "; ")
}

// mostReasons is how many kinds of nodes' reasons are told.
const mostReasons = 3
