// Package slots is the book that a gatekeeper keeps: how many requests each
// replica has, who they belong to, and who waits for a slot. It keeps two
// promises. A replica never has more slots given out than its limit, also when
// those who hold them have vanished. And no slot is free while somebody waits
// who could use it.
//
// A Book is values in, values out: it neither locks nor looks at a clock.
package slots

import (
	"maps"
	"time"
)

// Group names the deployment that a replica belongs to. Who waits, waits for any
// replica of a group.
type Group struct{ Application, Deployment string }

// Grant is a slot that has been given to a holder who waited for it.
type Grant struct {
	Holder  *Holder
	Replica *Replica
}

// Holder is a proxy, as the book knows it.
type Holder struct {
	Name  string
	wants map[*group]want
	shown map[*Replica]bool // in whose book it has a line
}

type want struct {
	slots int
	since time.Time // when the first of those who wait arrived
}

// Replica is one replica's page in the book.
type Replica struct {
	ID    string
	group *group
	limit int
	busy  int // slots given out: the sum of all shares
	share map[*Holder]*share
}

// share is what one holder has of one replica.
type share struct {
	held  int
	open  bool
	limit int  // of the replica, as the holder says while it is open
	muted bool // is given no slot that it waits for
}

type group struct {
	name     Group
	replicas map[*Replica]bool
	waiting  map[*Holder]bool // those with a want
}

// Book holds the replicas that one gatekeeper answers for.
type Book struct {
	replicas map[string]*Replica
	groups   map[Group]*group
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{replicas: map[string]*Replica{}, groups: map[Group]*group{}}
}

// Join makes a holder of that name, who has nothing yet.
func (b *Book) Join(name string) *Holder {
	return &Holder{Name: name, wants: map[*group]want{}, shown: map[*Replica]bool{}}
}

// Replica returns a replica's page, nil if there is none.
func (b *Book) Replica(id string) *Replica { return b.replicas[id] }

// Replicas calls visit for each page, in any order, until it returns false.
func (b *Book) Replicas(visit func(*Replica) bool) {
	for r := range maps.Values(b.replicas) {
		if !visit(r) {
			return
		}
	}
}

// Limit is how many slots the replica has.
func (r *Replica) Limit() int { return r.limit }

// Group names the deployment that the replica belongs to.
func (r *Replica) Group() Group { return r.group.name }

// Busy is how many of the replica's slots are given out. It exceeds the limit
// only where the limit was lowered, or a holder came back with more than there
// is room for.
func (r *Replica) Busy() int { return r.busy }

// Held is how many slots of the replica the holder has.
func (r *Replica) Held(h *Holder) int {
	if s := r.share[h]; s != nil {
		return s.held
	}
	return 0
}

// Holds calls visit for each replica that the holder has slots of.
func (h *Holder) Holds(visit func(r *Replica, held int)) {
	for r := range h.shown {
		if n := r.Held(h); n > 0 {
			visit(r, n)
		}
	}
}

// Wanted is how many slots of the group all holders but one wait for.
func (b *Book) Wanted(name Group, but *Holder) int {
	g := b.groups[name]
	if g == nil {
		return 0
	}
	total := 0
	for h := range g.waiting {
		if h != but {
			total += h.wants[g].slots
		}
	}
	return total
}
