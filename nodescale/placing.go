package nodescale

import (
	"fmt"
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

// lacks says what of asks there is no room for without one of the nodes; "": all
// of it fits. The room is left as it was.
func (r *room) lacks(asks []placement.Ask, without string) string {
	mark := r.board.Mark()
	defer r.board.Undo(mark)
	if i := slices.IndexFunc(r.nodes, func(n *placement.Node) bool { return n.ID == without }); i >= 0 {
		r.board.Close(i)
	}
	for i := range asks {
		placed := 0
		for _, spot := range r.board.Place(&asks[i], asks[i].Count) {
			placed += spot.Count
		}
		if placed < asks[i].Count {
			return fmt.Sprintf("room for %d of %s of job %s, with one beside its own until they have moved", placed, replicas(asks[i].Count), asks[i].Key)
		}
	}
	return ""
}
