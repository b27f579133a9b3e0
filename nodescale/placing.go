package nodescale

import (
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/placement"
)

type board struct{}

func newBoard([]*placement.Node) *board { return &board{} }

func (*board) WouldFit([]placement.Ask, string) string { return "not known" }

func pack(placement.Input) placement.Result { return placement.Result{} }

func imagine(n *placement.Node) *placement.Node { return n }

func nodeBounds(g *appspec.WorkerGroup, _ time.Time) (least, most int, why string) {
	return g.MinNodes, g.MaxNodes, "min_nodes"
}

func budgetAt(appspec.ScaleDown, time.Time, int) (int, string) { return 1, "1" }
