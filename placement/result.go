package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// cursor hands out the replicas of a class to the asks that they are of, in
// order.
type cursor struct{ at, used int }

func (c *cursor) next(k *class, count int, each func(ask, count int)) {
	for count > 0 && c.at < len(k.members) {
		m := k.members[c.at]
		n := min(count, m.count-c.used)
		each(m.ask, n)
		count -= n
		if c.used += n; c.used == m.count {
			*c = cursor{at: c.at + 1}
		}
	}
}

// result writes the best plan down by asks.
func (p *packer) result() Result {
	var r Result
	if p.best == nil {
		return r
	}
	cursors := make([]cursor, len(p.classes))
	for i, spots := range p.best.spots {
		for _, spot := range spots {
			cursors[i].next(p.classes[i], spot.Count, func(ask, count int) {
				r.Placed = append(r.Placed, Placed{Ask: ask, Node: spot.Node, Count: count})
			})
		}
	}
	slices.SortStableFunc(r.Placed, func(a, b Placed) int { return cmp.Compare(a.Ask, b.Ask) })
	for _, b := range p.best.bins {
		for range b.times {
			made := NewNode{Shape: b.shape.index, Holds: map[string]int{}}
			for _, h := range b.holds {
				cursors[h.class].next(p.classes[h.class], h.count, func(ask, count int) {
					made.Holds[p.in.Asks[ask].Key] += count
				})
			}
			r.New = append(r.New, made)
		}
	}
	p.explain(&r, cursors)
	return r
}

// visits is how many nodes and shapes are asked for their reasons in one call:
// reasons are for people, who read a few.
const visits = 200_000

// explain says of all that is short why.
func (p *packer) explain(r *Result, cursors []cursor) {
	if !slices.ContainsFunc(p.best.left, func(n int) bool { return n > 0 }) {
		return
	}
	p.replay()
	asked := 0
	for i, c := range p.classes {
		if p.best.left[i] <= 0 {
			continue
		}
		why := Short{Never: p.never(c)}
		if asked += len(p.board.slots) + len(p.shapes); asked <= visits {
			why.Nodes = p.nodeReasons(c)
			why.Shapes = p.shapeReasons(c)
			why.Headline = p.headline(c, &why)
		} else {
			why.Headline = "no room, like others"
			if why.Never {
				why.Headline = "fits no worker group, like others"
			}
		}
		cursors[i].next(c, p.best.left[i], func(ask, count int) {
			short := why
			short.Ask, short.Count = ask, count
			r.Short = append(r.Short, short)
		})
	}
	slices.SortStableFunc(r.Short, func(a, b Short) int { return cmp.Compare(a.Ask, b.Ask) })
}

// replay puts the best plan on the board, so that reasons are those of nodes
// that hold what is to be placed on them.
func (p *packer) replay() {
	for i, spots := range p.best.spots {
		for _, spot := range spots {
			p.board.put(p.classes[i].need, p.board.at[spot.Node], spot.Count)
		}
	}
}

// never reports whether no shape could hold a replica, were it empty.
func (p *packer) never(c *class) bool {
	if c.garbage != "" {
		return true
	}
	for i, h := range p.shapes {
		if c.places.has(i) && h.room.covers(&c.uses) {
			if r := h.never(c.need); !r.Refused() {
				return false
			}
		}
	}
	return true
}

// reason is one kind of refusal, of several nodes.
type reason struct {
	best   Refusal
	nodes  int
	unlike bool // their details differ
}

func (p *packer) nodeReasons(c *class) map[string]int {
	tally := p.board.tallyOf(c.ask)
	all := map[string]*reason{}
	for i := range p.board.slots {
		r := p.board.slots[i].refusal(c.need, tally)
		if !r.Refused() {
			continue
		}
		key := fmt.Sprint(r.Never, r.What)
		known := all[key]
		if known == nil {
			known = &reason{best: r}
			all[key] = known
		}
		known.nodes++
		known.unlike = known.unlike || known.best.Detail != r.Detail
		if r.near > known.best.near {
			known.best = r
		}
	}
	reasons := map[string]int{}
	for _, r := range all {
		reasons[r.String()] += r.nodes
	}
	return reasons
}

func (r *reason) String() string {
	switch {
	case !r.unlike:
		return r.best.String()
	case r.best.near > 0:
		return r.best.What + ": at best " + r.best.Detail
	default:
		return r.best.What
	}
}

// shapeReasons says of each worker group why it takes none.
func (p *packer) shapeReasons(c *class) map[string]string {
	made := map[int]int{}
	for _, b := range p.best.bins {
		made[b.shape.index] += b.times
	}
	tally := p.board.tallyOf(c.ask)
	reasons := map[string]string{}
	for i, h := range p.shapes {
		why := p.shapeReason(c, h, made[i], tally)
		if before, known := reasons[h.node.Group]; known && before != why {
			why = before + "; " + why
		}
		reasons[h.node.Group] = why
	}
	return reasons
}

func (p *packer) shapeReason(c *class, h *shape, made int, t *tally) string {
	if r := h.never(c.need); r.Refused() {
		return r.String()
	}
	if h.most == 0 {
		if refused := p.in.Shapes[h.index].Refused; refused != "" {
			return refused
		}
		return "it may have no more nodes"
	}
	if made >= h.most {
		if h.most == 1 {
			return "it may have 1 node more, which others fill"
		}
		return fmt.Sprintf("it may have %d nodes more, which others fill", h.most)
	}
	if empty := h.empty(); c.ask.apart() && t.room(c.ask, &empty, 1) == 0 {
		return empty.tooNear(c.ask, t).String()
	}
	return "it has room, which was left for others"
}

// told is how many worker groups a headline names.
const told = 5

// headline is the reasons in one line, for status.
func (p *packer) headline(c *class, why *Short) string {
	if len(why.Shapes) == 0 {
		return "no room on the nodes there are, and there is no worker group to make others"
	}
	start := ""
	if why.Never {
		start = "fits no worker group: "
	}
	names := p.concerned(c, why.Never)
	if len(names) == 0 {
		return "no worker group has nodes in node pool " + poolName(c.ask.Pool)
	}
	var parts []string
	for _, name := range names[:min(len(names), told)] {
		parts = append(parts, name+": "+why.Shapes[name])
	}
	if more := len(names) - told; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return start + strings.Join(parts, "; ")
}

// concerned names the worker groups that a headline is about: those that could
// hold a replica, or else those of its node pool, which cannot.
func (p *packer) concerned(c *class, never bool) []string {
	names := map[string]bool{}
	for _, h := range p.shapes {
		if never && h.node.isIn(c.ask.Pool) || !never && !h.never(c.need).Refused() {
			names[h.node.Group] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
