// Package gpudevice is the door to the GPUs of this machine: what NVIDIA's
// driver says of them, the MPS daemons that share them, and the files that a
// plugin leaves beside them.
package gpudevice

import (
	"errors"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// ErrNoNVML says that this binary cannot ask the driver.
var ErrNoNVML = errors.New("serve-nomad-gpu was built without NVML: build it on Linux with cgo (CGO_ENABLED=1 and a C compiler) for real GPUs")

// Usage is how much of a GPU is used just now. A nil field is not known.
type Usage struct {
	UsedMiB, TotalMiB         *uint64
	GPUPercent, MemoryPercent *uint64
	EncoderPercent            *uint64
	DecoderPercent            *uint64
	PowerW, PowerLimitW       *uint64
	TemperatureC              *uint64
	UncorrectedECC            *uint64
	BAR1UsedMiB, BAR1TotalMiB *uint64
}

// Driver asks NVIDIA's driver. One look at a time; a machine without one, or
// where it went away, is seen as such, and asked again the next time.
type Driver interface {
	// Look says which GPUs there are and how they are.
	Look() gpushare.Sight

	// Usage says how much of a GPU is used; false: it does not answer.
	Usage(uuid string) (Usage, bool)

	// Woken receives when a GPU may be in trouble, long before the next look.
	Woken() <-chan struct{}

	// Close lets go of the driver.
	Close()
}
