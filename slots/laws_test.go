package slots

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// machine drives a book at random, beside a plain count of who holds what.
type machine struct {
	book    *Book
	holders []*Holder
	held    map[string]map[*Holder]int      // replica -> holder -> slots
	open    map[string]map[*Holder]*Replica // replica -> who has opened it -> its page
	says    map[string]map[*Holder]int      // replica -> who has opened it -> the limit that it knows
	limit   map[string]int                  // the lowest that is said, the last one where nobody says any
	forced  map[string]bool                 // more was declared than there is room for, or the limit lowered
	now     time.Time
}

const testReplicas = 4

func groupOf(replica int) Group { return Group{"app", fmt.Sprintf("d%d", replica%2)} }

func newMachine() *machine {
	m := &machine{
		book: NewBook(), held: map[string]map[*Holder]int{}, limit: map[string]int{}, forced: map[string]bool{},
		open: map[string]map[*Holder]*Replica{}, says: map[string]map[*Holder]int{},
		now: time.Unix(1_700_000_000, 0),
	}
	for i := range 3 {
		m.holders = append(m.holders, m.book.Join(fmt.Sprintf("p%d", i)))
	}
	for i := range testReplicas {
		m.held[fmt.Sprintf("r%d", i)] = map[*Holder]int{}
		m.open[fmt.Sprintf("r%d", i)] = map[*Holder]*Replica{}
		m.says[fmt.Sprintf("r%d", i)] = map[*Holder]int{}
	}
	return m
}

func (m *machine) granted(grants []Grant) {
	for _, g := range grants {
		m.held[g.Replica.ID][g.Holder]++
	}
}

// agree is what the limit is to be of what is said.
func (m *machine) agree(id string) {
	lowest := 0
	for _, limit := range m.says[id] {
		if lowest == 0 || limit < lowest {
			lowest = limit
		}
	}
	if lowest == 0 {
		return
	}
	if lowest < m.limit[id] {
		m.forced[id] = true
	}
	m.limit[id] = lowest
}

func (m *machine) draw(t *rapid.T) (*Holder, int, string) {
	h := rapid.SampledFrom(m.holders).Draw(t, "holder")
	i := rapid.IntRange(0, testReplicas-1).Draw(t, "replica")
	return h, i, fmt.Sprintf("r%d", i)
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"open": func(t *rapid.T) {
			h, i, id := m.draw(t)
			limit := rapid.IntRange(1, 3).Draw(t, "limit")
			page, grants := m.book.Open(h, id, groupOf(i), limit, 0)
			m.open[id][h] = page
			m.says[id][h] = limit
			m.agree(id)
			m.granted(grants)
		},
		"take": func(t *rapid.T) {
			h, _, id := m.draw(t)
			if r := m.book.Replica(id); r != nil && m.book.Take(h, r) {
				m.held[id][h]++
			}
		},
		"release": func(t *rapid.T) {
			h, _, id := m.draw(t)
			r := m.book.Replica(id)
			if r == nil {
				return
			}
			m.held[id][h] = max(0, m.held[id][h]-1)
			m.granted(m.book.Release(h, r))
		},
		"want": func(t *rapid.T) {
			h, i, _ := m.draw(t)
			m.now = m.now.Add(time.Second)
			since := m.now.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "age")) * time.Second)
			m.granted(m.book.Want(h, groupOf(i), rapid.IntRange(0, 4).Draw(t, "slots"), since))
		},
		"close": func(t *rapid.T) {
			h, _, id := m.draw(t)
			if r := m.book.Replica(id); r != nil {
				delete(m.open[id], h)
				delete(m.says[id], h)
				m.agree(id)
				m.granted(m.book.Close(h, r))
			}
		},
		"mute": func(t *rapid.T) {
			h, _, id := m.draw(t)
			if r := m.book.Replica(id); r != nil {
				m.granted(m.book.Mute(h, r, rapid.Bool().Draw(t, "mute")))
			}
		},
		"declare": func(t *rapid.T) {
			h, _, id := m.draw(t)
			if r := m.book.Replica(id); r != nil {
				n := rapid.IntRange(0, 3).Draw(t, "held")
				m.held[id][h] = n
				m.forced[id] = true
				m.granted(m.book.Declare(h, r, n))
			}
		},
		"leave": func(t *rapid.T) {
			h, _, _ := m.draw(t)
			for id := range m.held {
				m.held[id][h] = 0
				delete(m.open[id], h)
				delete(m.says[id], h)
				m.agree(id)
			}
			m.granted(m.book.Leave(h))
		},
		"": m.check,
	}
}

func (m *machine) check(t *rapid.T) {
	for id, by := range m.open {
		for h, page := range by {
			if m.book.Replica(id) != page {
				t.Fatalf("%s has opened %s, which has another page now", h.Name, id)
			}
		}
	}
	for id, held := range m.held {
		total := 0
		for _, n := range held {
			total += n
		}
		r := m.book.Replica(id)
		if r == nil {
			if total != 0 {
				t.Fatalf("%s has %d slots given out and no page", id, total)
			}
			continue
		}
		if r.Busy() != total {
			t.Fatalf("%s: busy %d, want %d", id, r.Busy(), total)
		}
		if len(m.says[id]) > 0 && r.Limit() != m.limit[id] {
			t.Fatalf("%s: the limit is %d, and %v is said", id, r.Limit(), m.says[id])
		}
		if r.Busy() > r.Limit() && !m.forced[id] {
			t.Fatalf("%s: %d slots given out of %d", id, r.Busy(), r.Limit())
		}
		if r.Busy() <= r.Limit() {
			m.forced[id] = false
		}
	}
	for _, g := range m.book.groups {
		for h := range g.waiting {
			if r := g.roomFor(h); r != nil {
				t.Fatalf("%s waits while %s has a free slot", h.Name, r.ID)
			}
		}
	}
}

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { t.Repeat(newMachine().actions()) })
}

func TestTheLongestWaiterIsNext(t *testing.T) {
	b := NewBook()
	at := time.Unix(1_700_000_000, 0)
	d := Group{"app", "main"}
	one, two, three := b.Join("one"), b.Join("two"), b.Join("three")
	var r *Replica
	for _, h := range []*Holder{one, two, three} {
		r, _ = b.Open(h, "r", d, 1, 0)
	}
	if !b.Take(one, r) || b.Take(two, r) {
		t.Fatal("want one slot taken, and no more")
	}
	b.Want(two, d, 1, at.Add(time.Second))
	b.Want(three, d, 2, at)
	if got := b.Wanted(d, two); got != 2 {
		t.Errorf("others want %d slots, want 2", got)
	}
	for i, want := range []*Holder{three, three, two} {
		last := []*Holder{one, three, three}[i]
		if got := b.Release(last, r); len(got) != 1 || got[0].Holder != want {
			t.Errorf("release %d: %v is next, want %s", i, got, want.Name)
		}
	}
}

func TestASlotOfAHolderThatVanishedStaysTaken(t *testing.T) {
	b := NewBook()
	d := Group{"app", "main"}
	gone, here := b.Join("gone"), b.Join("here")
	r, _ := b.Open(gone, "r", d, 1, 0)
	b.Open(here, "r", d, 1, 0)
	b.Take(gone, r)
	b.Silence(gone)
	if got := b.Want(here, d, 1, time.Unix(1, 0)); len(got) != 0 {
		t.Fatalf("granted %v while the slot may be in use", got)
	}
	if got := b.Leave(gone); len(got) != 1 || got[0].Holder != here {
		t.Errorf("granted %v once the slot was free, want it for %s", got, here.Name)
	}
}

func BenchmarkTakeRelease(b *testing.B) {
	book := NewBook()
	h := book.Join("here")
	r, _ := book.Open(h, "r", Group{"app", "main"}, 5, 0)
	b.ReportAllocs()
	for b.Loop() {
		book.Take(h, r)
		book.Release(h, r)
	}
}
