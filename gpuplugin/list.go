package gpuplugin

import (
	"context"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpudevice"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// Listing is what the plugin would announce on this machine.
type Listing struct {
	Absent   string           // why the driver was not asked; "": it was
	GPUs     []gpushare.GPU   // what there is
	Groups   []gpushare.Group // what Nomad would be told
	Problems []string         // what cannot be carried out
}

// List looks at this machine's GPUs as the plugin would under a configuration,
// and changes nothing: it starts no MPS daemon.
func List(ctx context.Context, s gpushare.Settings, host string) (Listing, error) {
	config, err := gpushare.Parse(s, host)
	if err != nil {
		return Listing{}, err
	}
	driver := gpudevice.NewDriver(hclog.NewNullLogger())
	defer driver.Close()
	seen := newPatient(driver).look(ctx)
	listing := Listing{Absent: seen.Absent}
	next := gpushare.NextIndex(seen.GPUs)
	for _, pretence := range config.Pretences {
		gpus := gpushare.Pretend(pretence, next, nil)
		next += len(gpus)
		seen.GPUs = append(seen.GPUs, gpus...)
	}
	listing.GPUs = gpushare.Merge(nil, seen)
	devices, problems := gpushare.Assign(config, listing.GPUs)
	listing.Groups, listing.Problems = gpushare.Groups(devices), problems
	return listing, nil
}
