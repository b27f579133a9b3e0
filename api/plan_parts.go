package api

import (
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// parts are the steps of a plan by what they are of.
type parts map[reconcile.Owner][]reconcile.Step

func partsOf(world *reconcile.World, steps []reconcile.Step) parts {
	p := parts{}
	for i, owner := range reconcile.OwnersOf(world, steps) {
		p[owner] = append(p[owner], steps[i])
	}
	return p
}

// ofGroup returns the steps that are of a worker group: of its node pool, of its
// own, and those that name nobody, such as the stop of a prefetch job that no
// group asks for any more. The first that tells a step is the only one.
func (p parts) ofGroup(name, pool string) []reconcile.Step {
	list := append([]reconcile.Step{}, p[reconcile.Owner{Pool: pool}]...)
	list = append(list, p[reconcile.Owner{WorkerGroup: name}]...)
	return append(list, p[reconcile.Owner{}]...)
}

// ofApplication returns the steps that are of an application.
func (p parts) ofApplication(name string) []reconcile.Step {
	return p[reconcile.Owner{Application: name}]
}
