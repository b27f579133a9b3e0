//go:build !(cgo && linux)

package gpudevice

import (
	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// NewDriver returns a driver that finds nothing.
func NewDriver(hclog.Logger) Driver { return noDriver{} }

// noDriver is what there is where the driver cannot be asked.
type noDriver struct{}

func (noDriver) Look() gpushare.Sight       { return gpushare.Sight{Absent: ErrNoNVML.Error()} }
func (noDriver) Usage(string) (Usage, bool) { return Usage{}, false }
func (noDriver) Woken() <-chan struct{}     { return nil }
func (noDriver) Close()                     {}
