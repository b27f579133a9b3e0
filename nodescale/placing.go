package nodescale

import (
	"slices"

	"github.com/serve-nomad/serve-nomad/placement"
)

// room is the nodes that Nomad places replicas on.
type room struct {
	board *placement.Board
	nodes []*placement.Node
}

func newRoom(nodes []*placement.Node) *room {
	return &room{placement.NewBoard(nodes), nodes}
}

// lacks says of which ask there is not enough room without one of the nodes, and
// how many of it there is room for; ok: all of it fits. The room is left as it
// was.
func (r *room) lacks(asks []placement.Ask, without string) (short *placement.Ask, placed int, ok bool) {
	mark := r.board.Mark()
	defer r.board.Undo(mark)
	if i := slices.IndexFunc(r.nodes, func(n *placement.Node) bool { return n.ID == without }); i >= 0 {
		r.board.Close(i)
	}
	for i := range asks {
		placed = 0
		for _, spot := range r.board.Place(&asks[i], asks[i].Count) {
			placed += spot.Count
		}
		if placed < asks[i].Count {
			return &asks[i], placed, false
		}
	}
	return nil, 0, true
}
