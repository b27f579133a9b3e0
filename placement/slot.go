package placement

import (
	"slices"
	"strconv"
)

// plenty is more than anybody asks for, of what is not looked at.
const plenty = int64(1) << 50

// site is a node as it would be empty. Slots of one shape share theirs.
type site struct {
	node    *Node
	room    amount
	coreMHz int64           // that a reserved core takes of the CPU
	offers  map[int][]offer // device request -> which of the node's devices may fill it
	book    *book
}

// offer is one device of a node that may fill a request.
type offer struct {
	device int // index in Node.Devices
	liking float64
	usable []bool // by instance; nil: each of them
}

// slot is what is left of a node.
type slot struct {
	*site
	free  amount
	used  [][]bool // by device and instance
	spare []int    // free instances by device
	taken []int    // ports, sorted

	guests []guest // what a board has placed on it
}

// guest is replicas that a board has placed.
type guest struct {
	need  *need
	count int
}

func newSite(b *book, n *Node) *site {
	s := &site{node: n, book: b, offers: map[int][]offer{}}
	s.room = amount{int64(n.Room.CPU), int64(n.Room.MemoryMB), plenty, int64(n.Room.Cores), 0}
	if n.DiskKnown {
		s.room[disk] = int64(n.Room.DiskMB)
	}
	s.coreMHz = coreMHz(n)
	low, high := n.Ports.dynamic()
	s.room[ports] = int64(high - low + 1)
	for port, reserved := range n.Ports.Reserved {
		if reserved && port >= low && port <= high {
			s.room[ports]--
		}
	}
	return s
}

// coreMHz is what Nomad counts a reserved core for.
func coreMHz(n *Node) int64 {
	for _, name := range []string{"cpu.frequency", "cpu.frequency.performance"} {
		if mhz, err := strconv.Atoi(n.Attributes[name]); err == nil && mhz > 0 {
			return int64(mhz)
		}
	}
	if n.Room.Cores > 0 && n.Room.CPU > 0 {
		return int64(n.Room.CPU / n.Room.Cores)
	}
	return 0
}

func (p Ports) dynamic() (low, high int) {
	low, high = p.Low, p.High
	if low <= 0 {
		low = 20000
	}
	if high <= 0 {
		high = 32000
	}
	return low, high
}

// empty is the whole site.
func (s *site) empty() slot {
	t := slot{site: s, free: s.room}
	if n := len(s.node.Devices); n > 0 {
		t.used, t.spare = make([][]bool, n), make([]int, n)
		for i := range s.node.Devices {
			t.used[i] = make([]bool, len(s.node.Devices[i].Instances))
			t.spare[i] = len(t.used[i])
		}
	}
	return t
}

// filled is the site with what runs on it.
func (s *site) filled() slot {
	t := s.empty()
	for i := range s.node.Allocs {
		t.hold(&s.node.Allocs[i])
	}
	return t
}

// hold takes what an allocation uses.
func (s *slot) hold(a *Alloc) {
	uses := amount{int64(a.Uses.CPU), int64(a.Uses.MemoryMB), int64(a.Uses.DiskMB), int64(a.Uses.Cores), 0}
	s.free.add(&uses, -1)
	for i := range s.node.Devices {
		d := &s.node.Devices[i]
		for _, id := range a.Devices[d.id()] {
			at := slices.Index(d.Instances, id)
			if at >= 0 && !s.used[i][at] {
				s.used[i][at] = true
				s.spare[i]--
			}
		}
	}
	for _, port := range a.Ports {
		s.port(port)
	}
}

// port takes one port.
func (s *slot) port(port int) {
	at, there := slices.BinarySearch(s.taken, port)
	if there || s.node.Ports.Reserved[port] {
		return
	}
	s.taken = slices.Insert(s.taken, at, port)
	if low, high := s.node.Ports.dynamic(); port >= low && port <= high {
		s.free[ports]--
	}
}

func (s *slot) clone() slot {
	t := *s
	t.taken = slices.Clone(s.taken)
	t.spare = slices.Clone(s.spare)
	if s.used != nil {
		t.used = make([][]bool, len(s.used))
		for i := range s.used {
			t.used[i] = slices.Clone(s.used[i])
		}
	}
	return t
}

// takes is what one replica uses here: a reserved core takes CPU as well.
func (s *slot) takes(n *need) amount {
	uses := n.uses
	if uses[cores] > 0 {
		if uses[cores] > s.room[cores] {
			return amount{plenty, plenty, plenty, plenty, plenty}
		}
		uses[cpu] += uses[cores] * s.coreMHz
	}
	return uses
}

// fits says how many replicas there is room for, most at most.
func (s *slot) fits(n *need, most int) int {
	if n.garbage != "" || most <= 0 {
		return 0
	}
	uses := s.takes(n)
	if !s.free.covers(&uses) {
		return 0
	}
	count := int64(most)
	for d, u := range uses {
		if u > 0 {
			count = min(count, s.free[d]/u)
		}
	}
	if n.plain {
		return int(count)
	}
	if len(n.static) > 0 {
		if slices.ContainsFunc(n.static, s.busy) || s.free[ports]-uses[ports] < s.dynamicOf(n.static) {
			return 0
		}
		count = 1
	}
	return s.devicesFit(n, int(count))
}

// dynamicOf counts the ports that lie in the node's dynamic range.
func (s *slot) dynamicOf(list []int) (count int64) {
	low, high := s.node.Ports.dynamic()
	for _, p := range list {
		if p >= low && p <= high {
			count++
		}
	}
	return count
}

func (s *slot) busy(port int) bool {
	_, taken := slices.BinarySearch(s.taken, port)
	return taken || s.node.Ports.Reserved[port]
}

// devicesFit says for how many replicas there are devices.
func (s *slot) devicesFit(n *need, most int) int {
	if len(n.devices) == 0 {
		return most
	}
	if len(n.devices) == 1 && !s.book.devices[n.devices[0]].narrows {
		count := 0
		for _, o := range s.offersFor(n.devices[0]) {
			count += s.spare[o.device] / s.book.devices[n.devices[0]].ask.Count
		}
		return min(count, most)
	}
	t := s.clone()
	for count := range most {
		if !t.takeDevices(n) {
			return count
		}
	}
	return most
}

// offersFor finds which devices may fill a request.
func (s *site) offersFor(request int) []offer {
	found, known := s.offers[request]
	if known {
		return found
	}
	need := &s.book.devices[request]
	for i := range s.node.Devices {
		d := &s.node.Devices[i]
		if !s.book.judge.deviceFits(&need.ask, d) {
			continue
		}
		o := offer{device: i, liking: s.book.judge.liking(&need.ask, d)}
		if need.narrows {
			for _, id := range d.Instances {
				o.usable = append(o.usable, s.book.judge.instanceFits(&need.ask, d, id))
			}
		}
		found = append(found, o)
	}
	s.offers[request] = found
	return found
}

// takeDevices fills the requests of one replica one after the other, each from
// one device: the one that is liked most, and of those the one with the fewest
// instances left. Nomad takes any of the most liked.
func (s *slot) takeDevices(n *need) bool {
	for _, request := range n.devices {
		count := s.book.devices[request].ask.Count
		best := -1
		offers := s.offersFor(request)
		for i, o := range offers {
			if s.usable(o) < count {
				continue
			}
			if best < 0 || o.liking > offers[best].liking || o.liking == offers[best].liking && s.spare[o.device] < s.spare[offers[best].device] {
				best = i
			}
		}
		if best < 0 {
			return false
		}
		s.takeInstances(offers[best], count)
	}
	return true
}

func (s *slot) usable(o offer) int {
	if o.usable == nil {
		return s.spare[o.device]
	}
	count := 0
	for i, ok := range o.usable {
		if ok && !s.used[o.device][i] {
			count++
		}
	}
	return count
}

func (s *slot) takeInstances(o offer, count int) {
	used := s.used[o.device]
	for i := range used {
		if count > 0 && !used[i] && (o.usable == nil || o.usable[i]) {
			used[i] = true
			s.spare[o.device]--
			count--
		}
	}
}

// take puts replicas on the node, for which there is room.
func (s *slot) take(n *need, count int) {
	uses := s.takes(n)
	s.free.add(&uses, -int64(count))
	for range count {
		if !s.takeDevices(n) {
			break
		}
		for _, p := range n.static {
			s.port(p)
		}
		if n.plain {
			break
		}
	}
}

// units is the most free instances of one device.
func (s *slot) units() int {
	most := 0
	for _, n := range s.spare {
		most = max(most, n)
	}
	return most
}
