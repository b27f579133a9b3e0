package jobspec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

// digestScheme is how this release makes digests. A job with a digest of another
// scheme is not compared.
const digestScheme = "1:"

// Edited says whether what replicas of a job run as is no longer what the job was
// made with. Its count and the limits in its service's meta are not part of
// that, and neither is what Nomad adds to a job by itself.
func Edited(job *api.Job) bool {
	made := job.Meta[SpecMeta]
	return strings.HasPrefix(made, digestScheme) && made != digest(job)
}

// digest is a hash of those fields of a job that Nomad keeps as they are given.
func digest(job *api.Job) string {
	spec := digestedJob{
		NodePool: pointed(job.NodePool), Datacenters: job.Datacenters, Constraints: constraintsOf(job.Constraints),
	}
	if spec.NodePool == api.NodePoolDefault {
		spec.NodePool = ""
	}
	for _, g := range job.TaskGroups {
		group := digestedGroup{Name: pointed(g.Name), Constraints: givenTo(g), ShutdownDelay: pointed(g.ShutdownDelay)}
		for _, name := range slices.Sorted(maps.Keys(g.Volumes)) {
			group.Volumes = append(group.Volumes, name+" "+g.Volumes[name].Source)
		}
		for _, s := range g.Services {
			group.Services = append(group.Services, digestService(s))
		}
		for _, t := range g.Tasks {
			group.Tasks = append(group.Tasks, digestTask(t))
		}
		spec.Groups = append(spec.Groups, group)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return "" // a driver's config that JSON cannot say; Nomad does not take it either
	}
	sum := sha256.Sum256(text)
	return digestScheme + hex.EncodeToString(sum[:8])
}

type digestedJob struct {
	NodePool    string
	Datacenters []string
	Constraints []string
	Groups      []digestedGroup
}

type digestedGroup struct {
	Name          string
	Constraints   []string
	ShutdownDelay time.Duration
	Volumes       []string
	Services      []digestedService
	Tasks         []digestedTask
}

type digestedService struct {
	Name, PortLabel string
	Tags            []string
	Checks          []digestedCheck
}

type digestedCheck struct {
	Type, Path, GRPCService string
	Interval, Timeout       time.Duration
}

type digestedTask struct {
	Name, Driver, User, KillSignal string
	KillTimeout                    time.Duration
	Config                         any
	Env                            []string
	CPU, Cores, MemoryMB           int
	MemoryMaxMB                    int
	Devices, Constraints           []string
	Templates, Artifacts, Mounts   []string
}

func digestService(s *api.Service) digestedService {
	d := digestedService{Name: s.Name, PortLabel: s.PortLabel, Tags: s.Tags}
	for _, c := range s.Checks {
		d.Checks = append(d.Checks, digestedCheck{c.Type, c.Path, c.GRPCService, c.Interval, c.Timeout})
	}
	return d
}

func digestTask(t *api.Task) digestedTask {
	d := digestedTask{
		Name: t.Name, Driver: t.Driver, User: t.User, KillSignal: t.KillSignal, KillTimeout: pointed(t.KillTimeout),
		Config: asRead(t.Config), Env: sorted(t.Env), Constraints: constraintsOf(t.Constraints),
	}
	if r := t.Resources; r != nil {
		d.CPU, d.Cores, d.MemoryMB, d.MemoryMaxMB = pointed(r.CPU), pointed(r.Cores), pointed(r.MemoryMB), pointed(r.MemoryMaxMB)
		for _, device := range r.Devices {
			count := uint64(1)
			if device.Count != nil {
				count = *device.Count
			}
			d.Devices = append(d.Devices, line(device.Name, count, constraintsOf(device.Constraints)))
		}
	}
	for _, tmpl := range t.Templates {
		d.Templates = append(d.Templates, line(pointed(tmpl.EmbeddedTmpl), pointed(tmpl.DestPath)))
	}
	for _, a := range t.Artifacts {
		d.Artifacts = append(d.Artifacts, line(pointed(a.GetterSource), sorted(a.GetterOptions)))
	}
	for _, m := range t.VolumeMounts {
		d.Mounts = append(d.Mounts, line(pointed(m.Volume), pointed(m.Destination)))
	}
	return d
}

// givenTo leaves out the constraints on attributes that a group has, for Nomad
// adds some by itself: that a node has an agent of Consul, that it can send the
// task's signals, and with each release others. A job as we make it has none.
func givenTo(g *api.TaskGroup) []string {
	var given []*api.Constraint
	for _, c := range g.Constraints {
		if !strings.HasPrefix(c.LTarget, "${attr.") {
			given = append(given, c)
		}
	}
	return constraintsOf(given)
}

func constraintsOf(list []*api.Constraint) (texts []string) {
	for _, c := range list {
		texts = append(texts, line(c.LTarget, c.Operand, c.RTarget))
	}
	return texts
}

// sorted says a map as a list; one with nothing in it is as none.
func sorted(m map[string]string) (list []string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, key+"="+m[key])
	}
	return list
}

// asRead returns a driver's config as it comes back from Nomad: every number is a
// float, and every list one of anything.
func asRead(config map[string]any) any {
	if len(config) == 0 {
		return nil
	}
	text, err := json.Marshal(config)
	if err != nil {
		return config
	}
	var read any
	if err := json.Unmarshal(text, &read); err != nil {
		return config
	}
	return read
}

// line joins values so that no two lists of them give the same text.
func line(values ...any) string {
	text, err := json.Marshal(values)
	if err != nil {
		return ""
	}
	return string(text)
}

func pointed[T any](p *T) T {
	var none T
	if p == nil {
		return none
	}
	return *p
}
