// Package gpuplugin is Nomad's device plugin: it announces this machine's GPUs,
// whole or in slices, says when one can no longer be used, and hands them to
// tasks. It speaks to Nomad by the two gRPC services that Nomad's own packages
// are wrapped around; those packages are under another licence.
package gpuplugin

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpudevice"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// daemons keeps MPS daemons: gpudevice.MPS.
type daemons interface {
	Keep(ctx context.Context, daemons []gpushare.Daemon) (wrong map[string]string)
}

// plugin is what both services share.
type plugin struct {
	version string
	host    string // the machine's name
	boot    string // which run of the machine this is; "": not known
	driver  *patient
	mps     daemons
	log     hclog.Logger

	looking sync.Mutex // one look at a time
	known   []gpushare.GPU
	said    map[string]bool // each problem is logged when it comes up, and no more
	states  map[string]map[string]gpushare.Happening

	mu      sync.Mutex
	config  gpushare.Config
	devices []gpushare.Device // what the last look found; nil: there was none
}

func newPlugin(version, host, boot string, driver gpudevice.Driver, mps daemons, log hclog.Logger) *plugin {
	config, _ := gpushare.Parse(gpushare.Settings{}, host) // the defaults are valid
	return &plugin{
		version: version, host: host, boot: boot, driver: newPatient(driver), mps: mps, log: log,
		said: map[string]bool{}, states: map[string]map[string]gpushare.Happening{}, config: config,
	}
}

// configure takes a configuration, which Nomad sends before all else and not
// again.
func (p *plugin) configure(s gpushare.Settings) error {
	config, err := gpushare.Parse(s, p.host)
	if err != nil {
		return err
	}
	p.looking.Lock()
	defer p.looking.Unlock()
	p.known = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config, p.devices = config, nil
	return nil
}

func (p *plugin) current() (gpushare.Config, []gpushare.Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config, p.devices
}

// look looks at the GPUs and says what each is to Nomad. Nothing that is wrong
// ends it: an error would have Nomad forget all devices until it is restarted.
func (p *plugin) look(ctx context.Context) []gpushare.Device {
	p.looking.Lock()
	defer p.looking.Unlock()
	config, _ := p.current()
	problems := map[string]bool{}

	seen := p.driver.look(ctx)
	if seen.Absent != "" {
		problems["no NVIDIA GPU can be announced until the driver answers: "+seen.Absent] = true
	}
	seen.GPUs = append(seen.GPUs, p.pretend(config, seen, problems)...)
	p.known = gpushare.Merge(p.known, seen)

	devices, wrong := gpushare.Assign(config, p.known)
	for _, problem := range wrong {
		problems[problem] = true
	}
	devices = p.holdBack(config, devices, problems)
	failed := p.mps.Keep(ctx, gpushare.Daemons(config.StateDir, devices))
	for i := range devices {
		if devices[i].Trouble == "" {
			devices[i].Trouble = failed[devices[i].GPU.UUID]
		}
		if trouble := devices[i].Trouble; trouble != "" {
			problems["GPU "+devices[i].GPU.UUID+" cannot be used: "+trouble] = true
		}
	}
	if ctx.Err() != nil { // what was cut short says nothing
		return devices
	}
	p.say(problems)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.devices = devices
	return devices
}

// pretend returns the GPUs that there are not, numbered after all that are
// known.
func (p *plugin) pretend(config gpushare.Config, seen gpushare.Sight, problems map[string]bool) (gpus []gpushare.GPU) {
	next := gpushare.NextIndex(p.known, seen.GPUs)
	for _, pretence := range config.Pretences {
		problems[fmt.Sprintf("%d GPUs %q are make-believe: tasks placed on them find no GPU", pretence.Count, pretence.Model)] = true
		happened, err := gpudevice.Happenings(pretence.State)
		if err != nil {
			problems[err.Error()] = true
			happened = p.states[pretence.Model] // somebody may be writing it
		}
		p.states[pretence.Model] = happened
		gpus = append(gpus, gpushare.Pretend(pretence, next+len(gpus), happened)...)
	}
	return gpus
}

// holdBack compares the shapes of GPUs with those that they were announced in.
func (p *plugin) holdBack(config gpushare.Config, devices []gpushare.Device, problems map[string]bool) []gpushare.Device {
	if p.boot == "" {
		return devices
	}
	before, err := gpudevice.ReadAnnounced(config.StateDir)
	if err != nil {
		problems[err.Error()] = true
	}
	after, devices := gpushare.HoldBack(before, p.boot, gpudevice.AnnouncedFile(config.StateDir), devices)
	if reflect.DeepEqual(before, after) || len(after.GPUs) == 0 {
		return devices
	}
	if err = gpudevice.WriteAnnounced(config.StateDir, after); err != nil {
		problems["a GPU that is shared in another way after a restart will not be noticed: "+err.Error()] = true
	}
	return devices
}

// say logs the problems that were not there at the last look, and that those are
// gone which were.
func (p *plugin) say(problems map[string]bool) {
	for problem := range problems {
		if !p.said[problem] {
			p.log.Warn(problem)
		}
	}
	for problem := range p.said {
		if !problems[problem] {
			p.log.Info("no longer so", "was", problem)
		}
	}
	p.said = problems
}

// reserve says what a task gets for devices. A plugin that has just been started
// anew may be asked before it has looked.
func (p *plugin) reserve(ctx context.Context, ids []string) (gpushare.Reservation, error) {
	config, devices := p.current()
	if devices == nil {
		devices = p.look(ctx)
	}
	r, err := gpushare.Reserve(config, devices, ids)
	if err != nil {
		p.log.Error("a task cannot have its devices", "ids", ids, "error", err)
		return gpushare.Reservation{}, err
	}
	r.Nodes = gpudevice.Existing(r.Nodes)
	return r, nil
}
