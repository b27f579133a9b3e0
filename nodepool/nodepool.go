// Package nodepool is the door to whatever makes nodes: processes on this
// machine, target plugins of the Nomad Autoscaler, a command of the user, or
// nothing at all. It makes and removes machines; that they join Nomad, and drain
// before they go, is not its business.
package nodepool

import (
	"context"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// ErrNotSupported says that a target cannot do what it was asked: the call had
// no effect.
var ErrNotSupported = nodescale.ErrNotSupported

// Target makes and removes the nodes of worker groups. Calls may take minutes
// and end with ctx. They are made for several machines at once.
//
// Launch makes a machine, or finds the one that was made under its id before,
// and returns once it is ordered. Remove is nil once the machine is gone or on
// its way out for good, and also when there never was one.
type Target interface {
	Launch(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (instance string, err error)
	Remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error
	List(ctx context.Context, b nodescale.Blueprint) (nodescale.Listing, error)
}
