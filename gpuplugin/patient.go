package gpuplugin

import (
	"context"
	"time"

	"github.com/serve-nomad/serve-nomad/gpudevice"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// patience is how long a look at the driver may take. It takes well under a
// second; with some broken GPUs it never ends.
const patience = 20 * time.Second

// patient asks a driver and does not wait for ever.
type patient struct {
	gpudevice.Driver
	pending chan gpushare.Sight // a look that goes on; nil: none does
}

func newPatient(d gpudevice.Driver) *patient { return &patient{Driver: d} }

// look is for one caller at a time. A look that takes too long is waited for
// again the next time, and no second one is begun.
func (p *patient) look(ctx context.Context) gpushare.Sight {
	if p.pending == nil {
		p.pending = make(chan gpushare.Sight, 1)
		go func(answer chan<- gpushare.Sight) { answer <- p.Look() }(p.pending)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case sight := <-p.pending:
		p.pending = nil
		return sight
	case <-limit.C:
		return gpushare.Sight{Absent: "it has been asked " + patience.String() + " ago and more, and has not answered: see dmesg"}
	case <-ctx.Done():
		return gpushare.Sight{Absent: "it was not waited for"}
	}
}
