// Package jobspec turns a deployment version into the Nomad job that runs it,
// and reads back what such a job says of itself. The job is a service job of
// one group and one task: count replicas, each registered in Consul with its
// identity in the meta and one health check.
package jobspec

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// DefaultShutdownDelay is the time between a replica's leaving Consul and its
// kill signal when Input names none: long enough for a proxy that watches
// Consul to have stopped sending.
const DefaultShutdownDelay = 2 * time.Second

// DefaultCoreMHz stands in for the speed of a core when no node has been seen.
const DefaultCoreMHz = 1000

// Input is all that a job is made from.
type Input struct {
	ClusterID     string
	Application   *appspec.Application
	Deployment    *appspec.Deployment // one of Application's
	Version       string              // of the deployment, see raftstate.Version.DeploymentVersion
	Generation    int                 // of the application, whose replicas call each other
	Count         int
	CoreMHz       int // MHz that one core counts for; 0: DefaultCoreMHz
	Placement     Placement
	WorkerGroup   *appspec.WorkerGroup // that the deployment names; nil: none
	HandleAddress string               // host:port of the node's own proxy; may hold Nomad's ${...}
	UIAddress     string               // base URL of the control API; "": no link back
	ShutdownDelay time.Duration        // 0: DefaultShutdownDelay
}

// Placement is where in Nomad the replicas may run. Empty fields are Nomad's
// defaults, all datacenters among them.
type Placement struct {
	Namespace   string
	Region      string
	Datacenters []string
	NodePool    string
}

// Render returns the job. It shares nothing with its input.
func Render(in Input) *api.Job {
	app, dep := in.Application, in.Deployment
	job := &api.Job{
		ID:          new(JobID(app.Name, dep.Name, in.Version)),
		Name:        new(jobName(app.Name, dep.Name, in.Version)),
		Type:        new(api.JobTypeService),
		Namespace:   optional(in.Placement.Namespace),
		Region:      optional(in.Placement.Region),
		NodePool:    optional(NodePool(dep, in.WorkerGroup, in.Placement)),
		Datacenters: in.Placement.datacenters(),
		// Without it Nomad makes a deployment of its own at each change of
		// count, and refuses the next change while that one runs.
		Update: &api.UpdateStrategy{MaxParallel: new(0)},
		Meta: map[string]string{
			ClusterIDMeta:   in.ClusterID,
			ApplicationMeta: app.Name,
			DeploymentMeta:  dep.Name,
			VersionMeta:     in.Version,
			CoreMHzMeta:     strconv.Itoa(in.coreMHz()),
		},
		UI: &api.JobUIConfig{
			Description: fmt.Sprintf("Deployment **%s** of the serve-nomad application **%s**, version `%s`.",
				dep.Name, app.Name, in.Version),
		},
		TaskGroups: []*api.TaskGroup{in.group()},
	}
	if in.UIAddress != "" {
		job.UI.Links = []*api.JobUILink{{
			Label: "serve-nomad: application " + app.Name,
			URL:   uiLink(in.UIAddress, app),
		}}
	}
	job.Meta[SpecMeta] = digest(job)
	return job
}

// NodePool returns the node pool of a deployment's job: that of the worker
// group which it names, or its own, or the servers' default, "" for Nomad's.
func NodePool(dep *appspec.Deployment, group *appspec.WorkerGroup, placement Placement) string {
	if group != nil {
		return group.NodePool
	}
	return cmp.Or(dep.NodePool, placement.NodePool)
}

func (p Placement) datacenters() []string {
	if len(p.Datacenters) == 0 {
		return []string{"*"}
	}
	return slices.Clone(p.Datacenters)
}

// onlyIn holds a task group to the nodes of a worker group where the pool alone
// does not.
func onlyIn(group *appspec.WorkerGroup) []*api.Constraint {
	if group == nil || group.Node.Class == "" {
		return nil
	}
	return []*api.Constraint{{LTarget: "${node.class}", Operand: "=", RTarget: group.Node.Class}}
}

func (in Input) group() *api.TaskGroup {
	delay := in.ShutdownDelay
	if delay == 0 {
		delay = DefaultShutdownDelay
	}
	task := in.task()
	return &api.TaskGroup{
		Name:        new(in.Deployment.Name),
		Count:       new(in.Count),
		Constraints: onlyIn(in.WorkerGroup),
		Tasks:       []*api.Task{task},
		Services:    []*api.Service{in.service()},
		Networks:    []*api.NetworkResource{{DynamicPorts: []api.Port{{Label: PortLabel}}}},
		Volumes:     hostVolumes(task.VolumeMounts),
		// Replicas share nodes evenly, and so do those that are left when some
		// go: Nomad stops the ones with the highest index, wherever they run.
		// Left alone it prefers the fullest of a few nodes that it looks at,
		// and 6 -> 3 on three nodes emptied a node in 26 of 64 runs, and with
		// this in none. The price is that it looks at more nodes for each.
		Spreads: []*api.Spread{{Attribute: "${node.unique.id}", Weight: new(int8(100))}},
		// Nomad takes a stopping replica out of Consul, waits this long, and
		// only then signals it.
		ShutdownDelay: new(delay),
		// Two quick tries in place, where images and artifacts are, then the
		// replica counts as failed and its reason shows.
		RestartPolicy: &api.RestartPolicy{
			Attempts:        new(2),
			Interval:        new(2 * time.Minute),
			Delay:           new(time.Second),
			Mode:            new("fail"),
			RenderTemplates: new(false),
		},
		// After that another node, less and less often, for ever: 5 s is the
		// shortest delay that Nomad takes.
		ReschedulePolicy: &api.ReschedulePolicy{
			Delay:         new(5 * time.Second),
			DelayFunction: new("exponential"),
			MaxDelay:      new(2 * time.Minute),
			Unlimited:     new(true),
			Attempts:      new(0),
			Interval:      new(time.Duration(0)),
		},
		// A draining node hands its replicas over one by one, each time when
		// the replacement passes its check; models may take minutes to load.
		Migrate: &api.MigrateStrategy{
			MaxParallel:     new(1),
			HealthCheck:     new("checks"),
			MinHealthyTime:  new(time.Second),
			HealthyDeadline: new(10 * time.Minute),
		},
	}
}

func (in Input) service() *api.Service {
	app, dep := in.Application, in.Deployment
	meta := map[string]string{
		ApplicationMeta: app.Name,
		DeploymentMeta:  dep.Name,
		VersionMeta:     in.Version,
		ReplicaMeta:     "${NOMAD_ALLOC_ID}",
	}
	maps.Copy(meta, LiveMeta(app, dep))
	return &api.Service{
		Name:        ServiceName(app.Name, dep.Name),
		Provider:    api.ServiceProviderConsul,
		PortLabel:   PortLabel,
		AddressMode: "auto",
		// The version's tag picks one version in Consul's DNS:
		// version-1a2b3c4d.serve-search-ranker.service.consul.
		Tags:   []string{"serve", "application-" + app.Name, "version-" + in.Version},
		Meta:   meta,
		Checks: []api.ServiceCheck{check(dep)},
	}
}

// check is how Consul asks a replica whether it can serve. The first success
// makes a new one pass. A passing one fails at the third miss in a row, Ray
// Serve's threshold: a model that is busy for a second is not taken out, and
// proxies see a refused connection by themselves. There is no check_restart: it
// cannot tell a model that is loading, or a replica at its limit, from one that
// hangs.
func check(dep *appspec.Deployment) api.ServiceCheck {
	c := api.ServiceCheck{
		Name:                   "health",
		PortLabel:              PortLabel,
		Interval:               dep.HealthCheck.Period.Std(),
		Timeout:                dep.HealthCheck.Timeout.Std(),
		SuccessBeforePassing:   0,
		FailuresBeforeCritical: 3,
	}
	switch {
	case dep.EffectiveProtocol() == appspec.ProtocolGRPC:
		c.Type, c.GRPCService = "grpc", dep.HealthCheck.Service
	case dep.HealthCheck.Path == "":
		c.Type = "tcp" // Consul's own HTTP check would speak HTTP/1.1
	default:
		c.Type, c.Method, c.Path = "http", "GET", dep.HealthCheck.Path
	}
	return c
}

func (in Input) coreMHz() int { return knownMHz(in.CoreMHz) }

func knownMHz(coreMHz int) int {
	if coreMHz <= 0 {
		return DefaultCoreMHz
	}
	return coreMHz
}

func (in Input) resources() *api.Resources { return resources(in.Deployment.Resources, in.coreMHz()) }

// resources is what a task asks of Nomad, with a core counting for coreMHz.
func resources(want appspec.Resources, coreMHz int) *api.Resources {
	r := &api.Resources{
		CPU:      new(max(1, int(math.Round(want.CPU*float64(coreMHz))))),
		MemoryMB: new(want.MemoryMB),
	}
	if want.GPU > 0 {
		// A share of a GPU is refused before it gets here; were it not, a
		// whole one is the least that keeps the promise.
		r.Devices = []*api.RequestedDevice{{
			Name:  "nvidia/gpu",
			Count: new(uint64(math.Ceil(want.GPU))),
		}}
	}
	return r
}

// hostVolumes declares the volumes that the task mounts: a volume_mount names
// a host volume of the nodes, which Nomad wants declared in the group.
func hostVolumes(mounts []*api.VolumeMount) map[string]*api.VolumeRequest {
	volumes := map[string]*api.VolumeRequest{}
	for _, m := range mounts {
		if m == nil || m.Volume == nil || *m.Volume == "" {
			continue
		}
		readOnly := m.ReadOnly != nil && *m.ReadOnly
		if v := volumes[*m.Volume]; v != nil {
			v.ReadOnly = v.ReadOnly && readOnly
			continue
		}
		volumes[*m.Volume] = &api.VolumeRequest{Name: *m.Volume, Type: "host", Source: *m.Volume, ReadOnly: readOnly}
	}
	if len(volumes) == 0 {
		return nil
	}
	return volumes
}

func optional(s string) *string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return &s
}
