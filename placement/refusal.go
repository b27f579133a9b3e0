package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Refusal is why a node takes no replica of an ask. The zero value: it takes
// one.
type Refusal struct {
	What   string // of the node is lacking: "memory", "node pool gpu", "device nvidia/gpu"
	Detail string // in numbers: "512 of 1024 MiB free, 2048 asked"
	Never  bool   // it would not take one were it empty either

	near float64 // how near it comes, to tell the best of several
}

// Refused reports whether there is one.
func (r Refusal) Refused() bool { return r.What != "" }

// String is the reason in one line.
func (r Refusal) String() string {
	if r.Detail == "" {
		return r.What
	}
	return r.What + ": " + r.Detail
}

// Fits says whether a node takes one replica more of an ask, by Nomad's rules,
// and if not why. A node that is closed takes none. The rules that keep the
// replicas of a job apart count what runs on this node alone.
func Fits(n *Node, a *Ask) Refusal {
	book := newBook()
	s := newSite(book, n).filled()
	slots := []slot{s}
	return slots[0].refusal(book.read(a), newTally(a.key(), slots, func(int) bool { return false }))
}

// refusal says why a node takes no replica more.
func (s *slot) refusal(n *need, t *tally) Refusal {
	if r := s.never(n); r.Refused() {
		return r
	}
	if s.node.Closed != "" {
		return Refusal{What: s.node.Closed}
	}
	if s.fits(n, 1) == 0 {
		return s.lack(n)
	}
	if n.ask.apart() && t.room(n.ask, s, 1) == 0 {
		return s.tooNear(n.ask, t)
	}
	return Refusal{}
}

// never says why a node takes no replica even if it is empty.
func (s *site) never(n *need) Refusal {
	if n.garbage != "" {
		return Refusal{What: "the ask makes no sense", Detail: n.garbage, Never: true}
	}
	for _, i := range n.rules {
		if why := s.book.rules[i].check(s.node); why != "" {
			return Refusal{What: s.book.rules[i].what, Detail: why, Never: true}
		}
	}
	empty := s.empty()
	var r Refusal
	if empty.fits(n, 1) == 0 {
		r = empty.lack(n)
	} else if none := noTally(); n.ask.apart() && none.room(n.ask, &empty, 1) == 0 {
		r = empty.tooNear(n.ask, none)
	}
	r.Never = r.Refused()
	return r
}

// lack says what a node has too little of, for what fits refused.
func (s *slot) lack(n *need) Refusal {
	if uses := n.uses[cores]; uses > s.free[cores] {
		return s.shortOf("reserved cores", "", cores, uses)
	}
	uses := s.takes(n)
	for d, kind := range [dims]struct{ what, unit string }{{"cpu", " MHz"}, {"memory", " MiB"}, {"disk", " MiB"}, {"reserved cores", ""}, {"dynamic ports", ""}} {
		if uses[d] > s.free[d] {
			return s.shortOf(kind.what, kind.unit, d, uses[d])
		}
	}
	for _, p := range n.static {
		if s.node.Ports.Reserved[p] {
			return Refusal{What: fmt.Sprintf("port %d", p), Detail: "it is reserved"}
		}
		if s.busy(p) {
			return Refusal{What: fmt.Sprintf("port %d", p), Detail: "it is taken"}
		}
	}
	t := s.clone()
	for _, request := range n.devices {
		one := need{ask: n.ask, devices: []int{request}}
		if !t.takeDevices(&one) {
			return t.shortOfDevice(request)
		}
	}
	return s.shortOf("dynamic ports", "", ports, uses[ports]+s.dynamicOf(n.static))
}

func (s *slot) shortOf(what, unit string, d int, asked int64) Refusal {
	r := Refusal{What: what, near: float64(s.free[d]) / float64(max(asked, 1))}
	if s.free[d] == s.room[d] {
		r.Detail = fmt.Sprintf("%d%s asked, a node has %d", asked, unit, max(0, s.room[d]))
		return r
	}
	r.Detail = fmt.Sprintf("%d of %d%s free, %d asked", s.free[d], s.room[d], unit, asked)
	return r
}

func (s *slot) shortOfDevice(request int) Refusal {
	ask := &s.book.devices[request].ask
	r := Refusal{What: "device " + ask.Name}
	offers := s.offersFor(request)
	named := slices.IndexFunc(s.node.Devices, func(d Device) bool { return d.matches(ask.Name) })
	switch {
	case named < 0:
		r.Detail = "a node has none"
		return r
	case len(offers) == 0:
		r.Detail = "none meets " + s.unmet(ask)
		return r
	}
	most, all := 0, 0
	for _, o := range offers {
		most, all = max(most, s.usable(o)), max(all, len(s.node.Devices[o.device].Instances))
	}
	r.near = float64(most) / float64(ask.Count)
	if all < ask.Count {
		r.Detail = fmt.Sprintf("%d asked, a node has %d of one kind", ask.Count, all)
		return r
	}
	r.Detail = fmt.Sprintf("%d free of %d, %d asked", most, all, ask.Count)
	return r
}

// unmet is the first constraint on a device that none of the node's meets.
func (s *slot) unmet(ask *DeviceAsk) string {
	for _, c := range ask.Constraints {
		if !slices.ContainsFunc(s.node.Devices, func(d Device) bool { return d.matches(ask.Name) && s.book.judge.deviceMeets(c, &d) }) {
			return c.String()
		}
	}
	return "all of its constraints"
}

// tooNear says which rule of keeping apart a node would break.
func (s *slot) tooNear(a *Ask, t *tally) Refusal {
	if a.DistinctHosts && t.hosts[s] > 0 {
		return Refusal{What: "distinct_hosts", Detail: "a replica of the job is there"}
	}
	for _, p := range a.Distinct {
		v := resolve(p.Property, s.node)
		if !v.found && !v.own {
			return Refusal{What: "distinct_property " + p.Property, Detail: cmp.Or(v.unknown, "it is not set")}
		}
		if used := t.with(p.Property, v.text); used >= p.Limit {
			return Refusal{What: "distinct_property " + p.Property, Detail: fmt.Sprintf("%d of %d replicas are with %q", used, p.Limit, v.text)}
		}
	}
	return Refusal{What: "distinct_property"}
}
