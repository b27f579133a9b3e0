package gpushare

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// What a GPU is to Nomad.
const (
	ModeWhole   = "whole"   // one device, as Nomad's own plugin has it
	ModeShared  = "shared"  // as many devices as it has slices
	ModeIgnored = "ignored" // no device
)

// What holds where the configuration says nothing.
const (
	DefaultStateDir = "/run/serve-nomad-gpu"
	DefaultPeriod   = 30 * time.Second

	defaultPretenceMemory = "80GiB"
	shortestPeriod        = 10 * time.Millisecond // tests; NVML takes some of that for each GPU
	mebibyte              = 1 << 20
)

// Config is a valid configuration with its defaults filled in.
type Config struct {
	Use           Use // of the GPUs that no block names
	GPUs          map[string]Use
	Pretences     []Pretence // by model
	NvidiaRuntime bool
	Period        time.Duration
	StateDir      string
}

// Use is what is made of a GPU.
type Use struct {
	Mode    string
	Slices  int    // ModeShared
	Sharing string // ModeShared
}

// Pretence is GPUs that there are not.
type Pretence struct {
	Model     string
	Use       Use
	Count     int
	MemoryMiB uint64
	Seed      string // of their UUIDs
	State     string // file that says what is wrong with them; "": nothing ever is
}

// Parse makes the Config of what is written; what a seed is not given for is
// seeded with host, the machine's name. All that is wrong is said at once.
func Parse(s Settings, host string) (Config, error) {
	p := parser{}
	c := Config{
		Use:           p.use("", s.Mode, s.Slices, s.Sharing, Use{Mode: ModeWhole, Slices: DefaultSlices, Sharing: SharingTimeSlice}),
		GPUs:          map[string]Use{},
		NvidiaRuntime: s.NvidiaRuntime,
		Period:        p.period(s.FingerprintPeriod),
		StateDir:      p.stateDir(s.StateDir),
	}
	for _, name := range slices.Sorted(maps.Keys(s.GPUs)) {
		g := s.GPUs[name]
		if name == "" {
			p.wrong("gpu \"\": want the GPU's index, UUID or PCI bus id as the label")
		}
		named := c.Use
		named.Mode = blockMode(c.Use.Mode, g.Slices, g.Sharing)
		c.GPUs[name] = p.use(fmt.Sprintf("gpu %q: ", name), g.Mode, g.Slices, g.Sharing, named)
	}
	for _, model := range slices.Sorted(maps.Keys(s.MakeBelieve)) {
		c.Pretences = append(c.Pretences, p.pretence(model, s.MakeBelieve[model], c.Use, host))
	}
	return c, errors.Join(p.errs...)
}

// blockMode is the mode of a block that has none of its own: who says how a GPU
// is cut wants it shared.
func blockMode(outer string, n *int, sharing string) string {
	if n != nil || sharing != "" {
		return ModeShared
	}
	return outer
}

// parser gathers what is wrong.
type parser struct{ errs []error }

func (p *parser) wrong(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

// use reads the three settings that say what is made of a GPU.
func (p *parser) use(where, mode string, n *int, sharing string, u Use) Use {
	if mode != "" {
		u.Mode = mode
	}
	if n != nil {
		u.Slices = *n
	}
	if sharing != "" {
		u.Sharing = sharing
	}
	if !slices.Contains([]string{ModeWhole, ModeShared, ModeIgnored}, u.Mode) {
		p.wrong("%smode is %q: want %q, %q or %q", where, u.Mode, ModeWhole, ModeShared, ModeIgnored)
	}
	if u.Slices < 1 || u.Slices > MaxSlices {
		p.wrong("%sslices is %d: want a number from 1 to %d", where, u.Slices, MaxSlices)
	}
	if u.Sharing != SharingMPS && u.Sharing != SharingTimeSlice {
		p.wrong("%ssharing is %q: want %q or %q", where, u.Sharing, SharingTimeSlice, SharingMPS)
	}
	return u
}

func (p *parser) period(text string) time.Duration {
	if text == "" {
		return DefaultPeriod
	}
	period, err := time.ParseDuration(text)
	if err != nil || period < shortestPeriod {
		p.wrong("fingerprint_period is %q: want a duration such as \"30s\"", text)
		return DefaultPeriod
	}
	return period
}

func (p *parser) stateDir(dir string) string {
	if dir == "" {
		return DefaultStateDir
	}
	if !path.IsAbs(dir) {
		p.wrong("state_dir is %q: want an absolute path, since Nomad chooses the folder that the plugin runs in", dir)
	}
	return path.Clean(dir)
}

func (p *parser) pretence(model string, s PretenceSettings, outer Use, host string) Pretence {
	where := fmt.Sprintf("make_believe %q: ", model)
	if strings.TrimSpace(model) == "" {
		p.wrong("%swant the model's name as the label", where)
	}
	outer.Mode = blockMode(outer.Mode, s.Slices, s.Sharing)
	pretence := Pretence{
		Model: model, Count: 1, Seed: host, State: s.State,
		Use: p.use(where, s.Mode, s.Slices, s.Sharing, outer),
	}
	if s.Count != nil {
		pretence.Count = *s.Count
	}
	if pretence.Count < 0 || pretence.Count > MaxIndex+1 {
		p.wrong("%scount is %d: want a number from 0 to %d", where, pretence.Count, MaxIndex+1)
		pretence.Count = 0
	}
	if s.Seed != "" {
		pretence.Seed = s.Seed
	}
	if s.State != "" && !path.IsAbs(s.State) {
		p.wrong("%sstate is %q: want an absolute path, since Nomad chooses the folder that the plugin runs in", where, s.State)
	}
	memory := s.Memory
	if memory == "" {
		memory = defaultPretenceMemory
	}
	bytes, err := humanize.ParseBytes(memory)
	if err != nil || bytes < mebibyte {
		p.wrong("%smemory is %q: want a size such as \"80GiB\"", where, memory)
	}
	pretence.MemoryMiB = bytes / mebibyte
	return pretence
}
