package placement

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// What a node has of each kind, and an ask takes.
const (
	cpu = iota
	memory
	disk
	cores
	ports // dynamic
	dims
)

// amount is of each kind. A node's may be negative: more was promised than it
// has by now.
type amount [dims]int64

func (a *amount) covers(b *amount) bool {
	return a[0] >= b[0] && a[1] >= b[1] && a[2] >= b[2] && a[3] >= b[3] && a[4] >= b[4]
}

func (a *amount) add(b *amount, times int64) {
	for d := range a {
		a[d] += b[d] * times
	}
}

// rule is one thing that an ask needs of a node, whatever runs there.
type rule struct {
	what  string               // it, in Nomad's words
	about string               // what it is about, to make rules of one kind unlike
	check func(n *Node) string // why a node does not have it; "": it has
}

// need is an ask, made ready: what it needs of a node by rules, and how much.
type need struct {
	ask     *Ask
	rules   []int // of the book
	uses    amount
	devices []int // of the book
	units   int   // the most instances that one request asks for
	static  []int
	garbage string // why the ask makes no sense; "": it does
	plain   bool   // uses is all that it takes
}

// book holds each rule and each device request once, whichever asks and nodes
// they come from.
type book struct {
	judge   *judge
	rules   []rule
	byText  map[string]int
	devices []deviceNeed
	devText map[string]int
}

type deviceNeed struct {
	ask     DeviceAsk
	narrows bool
}

func newBook() *book {
	return &book{judge: newJudge(), byText: map[string]int{}, devText: map[string]int{}}
}

func (b *book) rule(about, what string, check func(n *Node) string) int {
	// The text alone would do; a NUL keeps its two parts apart.
	key := about + "\x00" + what
	i, known := b.byText[key]
	if !known {
		i = len(b.rules)
		b.rules = append(b.rules, rule{what: what, about: about, check: check})
		b.byText[key] = i
	}
	return i
}

// read makes an ask ready.
func (b *book) read(a *Ask) *need {
	n := &need{ask: a, garbage: a.garbage()}
	n.uses = amount{int64(a.Uses.CPU), int64(a.Uses.MemoryMB), int64(a.Uses.DiskMB), int64(a.Uses.Cores), int64(a.DynamicPorts)}
	n.rules = append(n.rules, b.pool(a.Pool))
	if a.Datacenters != nil {
		n.rules = append(n.rules, b.datacenters(a.Datacenters))
	}
	for _, d := range a.Drivers {
		n.rules = append(n.rules, b.driver(d))
	}
	for _, c := range a.Constraints {
		n.rules = append(n.rules, b.constraint(c))
	}
	for name, write := range a.Volumes {
		n.rules = append(n.rules, b.volume(name, write))
	}
	slices.Sort(n.rules) // a map was among them
	for i := range a.Devices {
		n.devices = append(n.devices, b.device(&a.Devices[i]))
		n.units = max(n.units, a.Devices[i].Count)
	}
	n.static = slices.Clone(a.StaticPorts)
	slices.Sort(n.static)
	n.plain = len(n.devices) == 0 && len(n.static) == 0 && n.uses[cores] == 0
	return n
}

// garbage says what about an ask makes no sense.
func (a *Ask) garbage() string {
	u := a.Uses
	if u.CPU < 0 || u.MemoryMB < 0 || u.DiskMB < 0 || u.Cores < 0 || a.DynamicPorts < 0 {
		return "it asks for less than nothing"
	}
	for _, d := range a.Devices {
		if d.Count <= 0 {
			return "it asks for " + strconv.Itoa(d.Count) + " of device " + d.Name
		}
	}
	for i, p := range a.StaticPorts {
		if p < 0 || p > 65535 {
			return "there is no port " + strconv.Itoa(p)
		}
		if slices.Contains(a.StaticPorts[:i], p) {
			return "it asks for port " + strconv.Itoa(p) + " twice"
		}
	}
	return ""
}

func (b *book) pool(name string) int {
	return b.rule("pool", "node pool "+poolName(name), func(n *Node) string {
		if n.isIn(name) {
			return ""
		}
		return "it is in node pool " + poolName(n.Pool)
	})
}

// isIn says whether a node is in the node pool that an ask names.
func (n *Node) isIn(pool string) bool { return pool == "all" || poolName(n.Pool) == poolName(pool) }

// poolName is Nomad's name of a node pool, which has a default.
func poolName(name string) string { return cmp.Or(name, "default") }

func (b *book) datacenters(patterns []string) int {
	return b.rule("datacenter", "datacenter "+strings.Join(patterns, " or "), func(n *Node) string {
		if slices.ContainsFunc(patterns, func(p string) bool { return wild(p, n.Datacenter) }) {
			return ""
		}
		return "it is in datacenter " + n.Datacenter
	})
}

// wild matches text with a pattern in which '*' stands for anything.
func wild(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		if _, text, ok = strings.Cut(text, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

func (b *book) driver(name string) int {
	return b.rule("driver", "driver "+name, func(n *Node) string {
		if n.Drivers == nil || n.Drivers[name] {
			return ""
		}
		return "it is not there"
	})
}

func (b *book) constraint(c Constraint) int {
	key := "constraint\x00" + c.Left + "\x00" + c.Operand + "\x00" + c.Right
	if i, known := b.byText[key]; known {
		return i
	}
	i := len(b.rules)
	b.rules = append(b.rules, rule{what: "constraint " + c.String(), about: "constraint", check: func(n *Node) string { return b.judge.refuses(c, n) }})
	b.byText[key] = i
	return i
}

func (b *book) volume(name string, write bool) int {
	about := "volume"
	if write {
		about = "volume to write to"
	}
	return b.rule(about, "host volume "+name, func(n *Node) string {
		v, there := n.Volumes[name]
		switch {
		case !there:
			return "it is not there"
		case write && v.ReadOnly:
			return "it may only be read"
		default:
			return ""
		}
	})
}

func (b *book) device(a *DeviceAsk) int {
	var key []byte
	for _, part := range []string{a.Name, strconv.Itoa(a.Count)} {
		key = appendText(key, part)
	}
	for _, c := range a.Constraints {
		key = appendConstraint(key, c)
	}
	for _, f := range a.Affinities {
		key = append(appendConstraint(key, f.Constraint), strconv.Itoa(f.Weight)...)
	}
	i, known := b.devText[string(key)]
	if !known {
		i = len(b.devices)
		b.devices = append(b.devices, deviceNeed{ask: *a, narrows: a.narrows()})
		b.devText[string(key)] = i
	}
	return i
}

// appendText makes keys that no other texts make.
func appendText(key []byte, s string) []byte {
	return append(binary.AppendUvarint(key, uint64(len(s))), s...)
}

func appendConstraint(key []byte, c Constraint) []byte {
	return appendText(appendText(appendText(key, c.Left), c.Operand), c.Right)
}
