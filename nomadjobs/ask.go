package nomadjobs

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/placement"
)

// defaultDiskMB is the ephemeral disk of a group that does not say.
const defaultDiskMB = 300

// AskOf says what one replica of a job asks for. The job is to be as Nomad has
// stored it: the server adds constraints of its own to what was registered, on
// Consul's version, kill signals and the like. Count is not set. A job that
// asks for something which placement cannot weigh is an error: better no node
// for it than one on which Nomad then does not place it.
func AskOf(job *api.Job) (placement.Ask, error) {
	id := value(job.ID)
	if len(job.TaskGroups) != 1 || job.TaskGroups[0] == nil {
		return placement.Ask{}, fmt.Errorf("job %s: it has %d groups, and replicas are of one", id, len(job.TaskGroups))
	}
	group := job.TaskGroups[0]
	ask := placement.Ask{
		Key: id, Job: id, Namespace: value(job.Namespace), TaskGroup: value(group.Name),
		Pool: value(job.NodePool), Datacenters: slices.Clone(job.Datacenters), Priority: value(job.Priority),
		Affinities: affinities(job.Affinities, group.Affinities),
		Spreads:    spreads(job.Spreads, group.Spreads),
	}
	err := addConstraints(&ask, job.Constraints, group.Constraints)
	if err == nil {
		err = addVolumes(&ask, group.Volumes)
	}
	if len(group.Networks) > 0 { // the scheduler looks at no other
		addPorts(&ask, group.Networks[0])
	}
	var uses []taskUse
	for _, task := range group.Tasks {
		if err == nil {
			err = addTask(&ask, task)
		}
		uses = append(uses, taskUseOf(task))
	}
	if err != nil {
		return placement.Ask{}, fmt.Errorf("job %s: %w", id, err)
	}
	ask.Uses = together(uses)
	ask.Uses.DiskMB = defaultDiskMB
	if group.EphemeralDisk != nil && group.EphemeralDisk.SizeMB != nil {
		ask.Uses.DiskMB = *group.EphemeralDisk.SizeMB
	}
	return ask, nil
}

// addTask adds what one task asks for, but for its share of the processor and
// of memory.
func addTask(ask *placement.Ask, task *api.Task) error {
	if !slices.Contains(ask.Drivers, task.Driver) {
		ask.Drivers = append(ask.Drivers, task.Driver)
	}
	ask.Affinities = append(ask.Affinities, affinities(task.Affinities)...)
	if err := addConstraints(ask, task.Constraints); err != nil {
		return err
	}
	if task.Resources == nil {
		return nil
	}
	if numa := task.Resources.NUMA; numa != nil && numa.Affinity == "require" {
		return fmt.Errorf("task %s asks for one NUMA node, which placement does not know", task.Name)
	}
	if len(task.Resources.Networks) > 0 {
		addPorts(ask, task.Resources.Networks[0])
	}
	for _, device := range task.Resources.Devices {
		count := 1
		if device.Count != nil {
			count = int(min(*device.Count, 1<<20)) //nolint:gosec // G115: it is small by now
		}
		ask.Devices = append(ask.Devices, placement.DeviceAsk{
			Name: device.Name, Count: count,
			Constraints: constraints(device.Constraints), Affinities: affinities(device.Affinities),
		})
	}
	return nil
}

func taskUseOf(task *api.Task) taskUse {
	use := taskUse{}
	if task.Lifecycle != nil {
		use.hook, use.sidecar = task.Lifecycle.Hook, task.Lifecycle.Sidecar
	}
	if r := task.Resources; r != nil {
		use.cpu, use.cores, use.memory = value(r.CPU), value(r.Cores), value(r.MemoryMB)+value(r.SecretsMB)
	}
	return use
}

// taskUse is what one task of a group has or asks for, and when it runs.
type taskUse struct {
	hook               string // of its lifecycle; "": it is a main task
	sidecar            bool
	cpu, cores, memory int
}

// together is what a group holds, as Nomad's scheduler counts: tasks that run
// before the main ones, and after them, take the same room as those. Whole
// cores are each task's own.
func together(tasks []taskUse) placement.Resources {
	type amount struct{ cpu, memory int }
	var before, during, after, own amount
	cores := 0
	for _, t := range tasks {
		if t.cores > 0 {
			cores += t.cores
			own.cpu += t.cpu
			t.cpu = 0
		}
		add := func(a *amount) { a.cpu += t.cpu; a.memory += t.memory }
		switch t.hook {
		case api.TaskLifecycleHookPrestart:
			add(&before)
			if t.sidecar {
				add(&during)
			}
		case api.TaskLifecycleHookPoststop:
			add(&after)
		default:
			add(&during)
		}
	}
	return placement.Resources{
		CPU:      own.cpu + max(before.cpu, during.cpu, after.cpu),
		MemoryMB: max(before.memory, during.memory, after.memory),
		Cores:    cores,
	}
}

func addConstraints(ask *placement.Ask, lists ...[]*api.Constraint) error {
	for _, c := range slices.Concat(lists...) {
		switch c.Operand {
		case api.ConstraintDistinctHosts:
			on, err := strconv.ParseBool(c.RTarget)
			ask.DistinctHosts = ask.DistinctHosts || err != nil || on // what is no bool is true to Nomad
		case api.ConstraintDistinctProperty:
			limit := 1
			if c.RTarget != "" {
				var err error
				if limit, err = strconv.Atoi(c.RTarget); err != nil || limit < 0 {
					return fmt.Errorf("distinct_property %s has the limit %q, which is no number", c.LTarget, c.RTarget)
				}
			}
			ask.Distinct = append(ask.Distinct, placement.DistinctProperty{Property: c.LTarget, Limit: limit})
		default:
			ask.Constraints = append(ask.Constraints, constraint(c))
		}
	}
	return nil
}

func addVolumes(ask *placement.Ask, volumes map[string]*api.VolumeRequest) error {
	for name, v := range volumes {
		if v.Type != "host" || v.PerAlloc || v.Sticky {
			return fmt.Errorf("volume %q is of CSI, sticky or one for each replica, which placement does not know", name)
		}
		if ask.Volumes == nil {
			ask.Volumes = map[string]bool{}
		}
		ask.Volumes[v.Source] = ask.Volumes[v.Source] || !v.ReadOnly
	}
	return nil
}

func addPorts(ask *placement.Ask, network *api.NetworkResource) {
	ask.DynamicPorts += len(network.DynamicPorts)
	for _, port := range network.ReservedPorts {
		if !port.IgnoreCollision {
			ask.StaticPorts = append(ask.StaticPorts, port.Value)
		}
	}
}

func constraint(c *api.Constraint) placement.Constraint {
	return placement.Constraint{Left: c.LTarget, Operand: c.Operand, Right: c.RTarget}
}

func constraints(list []*api.Constraint) (all []placement.Constraint) {
	for _, c := range list {
		all = append(all, constraint(c))
	}
	return all
}

func affinities(lists ...[]*api.Affinity) (all []placement.Affinity) {
	for _, a := range slices.Concat(lists...) {
		all = append(all, placement.Affinity{
			Constraint: placement.Constraint{Left: a.LTarget, Operand: a.Operand, Right: a.RTarget},
			Weight:     int(value(a.Weight)),
		})
	}
	return all
}

func spreads(lists ...[]*api.Spread) (all []placement.Spread) {
	for _, s := range slices.Concat(lists...) {
		all = append(all, placement.Spread{Attribute: s.Attribute, Weight: int(value(s.Weight))})
	}
	return all
}

// value is what p points to, or nothing.
func value[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}
