package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
)

// Configs is what is known of the user_configs that replicas take while they
// run, those of deployments with a reconfigure block. Each is in Nomad, beside
// its job.
type Configs struct {
	Error     string            // why Written is not as of now; "": it is
	Written   map[string]Config // by job id
	Faults    map[string]string // by job id: why its config could not be written
	Confirmed map[string]string // replica -> hash of the config that it has taken
	Refused   map[string]string // replica -> why it has not taken that of its job
}

// Config is the user_config of one job's replicas, as it is in Nomad.
type Config struct {
	ClusterID   string // of the serve-nomad cluster that wrote it
	Hash        string // see appspec.ConfigOf
	WrittenAt   time.Time
	ModifyIndex uint64
}

// WriteConfig puts a user_config where the replicas of a job find it, which
// need not be there yet.
type WriteConfig struct {
	JobID       string
	ClusterID   string
	Config      string // JSON
	Hash        string
	ModifyIndex uint64 // of the one that it replaces; 0: there must be none
}

// DropConfig takes the user_config of a job away that has no replicas any more.
type DropConfig struct {
	JobID       string
	ModifyIndex uint64
}

// config brings the user_config of n's replicas to Nomad, which is looked at.
func (d *differ) config(n need) {
	id := n.jobID()
	have, written := d.world.Configs.Written[id]
	job, exists := d.world.Jobs[id]
	switch {
	case !d.world.NomadKnown, d.world.Configs.Error != "", d.world.hasConfig(n),
		written && have.ClusterID != d.state.ClusterID,
		exists && job.ClusterID != d.state.ClusterID:
		return
	}
	reason := "the replicas of its job read it when they start"
	if written {
		reason = "it has changed; no replica restarts"
	}
	d.add(Step{
		WriteConfig: &WriteConfig{
			JobID: id, ClusterID: d.state.ClusterID, Config: jobspec.ConfigText(n.deployment),
			Hash: appspec.ConfigOf(n.deployment), ModifyIndex: have.ModifyIndex,
		},
		Reason: reason,
	})
}

// hasConfig says whether the replicas of n find their user_config when they
// start.
func (w sight) hasConfig(n need) bool {
	return n.deployment.Reconfigure == nil || w.Configs.Written[n.jobID()].Hash == appspec.ConfigOf(n.deployment)
}

// dropConfigs takes away the user_configs of this cluster that nobody can read
// any more.
func (d *differ) dropConfigs() {
	if !d.world.NomadKnown || d.world.Configs.Error != "" {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(d.world.Configs.Written)) {
		config := d.world.Configs.Written[id]
		if config.ClusterID == d.state.ClusterID && !d.needed[id] && !d.world.lives(d.state.ClusterID, id) {
			d.add(Step{
				DropConfig: &DropConfig{JobID: id, ModifyIndex: config.ModifyIndex},
				Reason:     "its job has ended",
			})
		}
	}
}

// configured says how far the replicas of n that serve have taken its
// user_config: what it waits for, "" when for nothing, and why one of them
// refuses, "" when none does. A replica that does not pass holds up nothing while
// others do.
func (w sight) configured(n need) (waiting, refused string) {
	id, name := n.jobID(), n.deployment.Name
	switch fault := w.Configs.Faults[id]; {
	case n.deployment.Reconfigure == nil:
		return "", ""
	case w.Configs.Error != "":
		return fmt.Sprintf("%s: whether its user_config is written is not known: %s", name, w.Configs.Error), ""
	case !w.hasConfig(n) && fault != "":
		return fmt.Sprintf("%s: its user_config cannot be written: %s", name, fault), ""
	case !w.hasConfig(n):
		return name + ": its user_config is not written yet", ""
	}
	serve, taken := 0, 0
	for _, r := range w.replicas[id] {
		if why := w.Configs.Refused[r.ID]; why != "" && refused == "" {
			refused = fmt.Sprintf("%s: replica %s did not take the user_config: %s", name, short(r.ID), why)
		}
		if r.Status != ReplicaRunning || !w.endpoints[id][r.ID].Passing {
			continue
		}
		serve++
		if w.Configs.Confirmed[r.ID] == appspec.ConfigOf(n.deployment) {
			taken++
		}
	}
	switch {
	case taken < serve:
		waiting = fmt.Sprintf("%s: %d of %d replicas have taken the user_config", name, taken, serve)
	case serve == 0 && n.count > 0:
		waiting = name + ": none of its replicas passes its health check"
	}
	return waiting, refused
}

// takeConfig lets all replicas of a job have taken the config that is written, in
// a simulation.
func (w *World) takeConfig(jobID string) {
	config, written := w.Configs.Written[jobID]
	if !written {
		return
	}
	w.Configs.Confirmed = clone(w.Configs.Confirmed)
	for _, r := range w.Replicas {
		if r.JobID == jobID {
			w.Configs.Confirmed[r.ID] = config.Hash
		}
	}
}

// writeConfig is a WriteConfig that has been done, in a simulation.
func (w *World) writeConfig(c *WriteConfig, now time.Time) {
	w.Configs.Written = clone(w.Configs.Written)
	w.Configs.Written[c.JobID] = Config{ClusterID: c.ClusterID, Hash: c.Hash, WrittenAt: now, ModifyIndex: c.ModifyIndex + 1}
	w.takeConfig(c.JobID)
}

// dropConfig is a DropConfig that has been done, in a simulation.
func (w *World) dropConfig(jobID string) {
	w.Configs.Written = clone(w.Configs.Written)
	delete(w.Configs.Written, jobID)
}
