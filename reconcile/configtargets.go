package reconcile

import (
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// ConfigTarget is a replica whose job's user_config, as it is in Nomad, is the
// one that the job is to have.
type ConfigTarget struct {
	Replica     Replica
	Application string
	Deployment  *appspec.Deployment // has a reconfigure block
	Address     string              // host:port, as Consul has it; "": it is not there
	Passing     bool
	Config      string // JSON
	Hash        string
	WrittenAt   time.Time
}

// ConfigTargets returns the running replicas that are to take a user_config.
func ConfigTargets(state *raftstate.State, world *World) []ConfigTarget {
	w := see(state, world)
	var list []ConfigTarget
	for _, app := range applications(state) {
		for _, n := range w.needs(app) {
			if n.deployment.Reconfigure == nil {
				continue
			}
			id, want := n.jobID(), appspec.ConfigOf(n.deployment)
			written := world.Configs.Written[id]
			if written.ClusterID != state.ClusterID || written.Hash != want {
				continue
			}
			for _, r := range w.replicas[id] {
				if r.Status != ReplicaRunning {
					continue
				}
				at := w.endpoints[id][r.ID]
				list = append(list, ConfigTarget{
					Replica: r, Application: app.Name, Deployment: n.deployment, Address: at.Address, Passing: at.Passing,
					Config: jobspec.ConfigText(n.deployment), Hash: want, WrittenAt: written.WrittenAt,
				})
			}
		}
	}
	return list
}

// TakesConfigs says whether a version of any application has a deployment whose
// replicas take a user_config while they run.
func TakesConfigs(state *raftstate.State) bool {
	takes := func(v *raftstate.Version) bool {
		return slices.ContainsFunc(v.Spec.Deployments, func(d *appspec.Deployment) bool { return d.Reconfigure != nil })
	}
	for _, app := range state.Applications {
		if takes(app.Serving) || takes(app.Wanted) || slices.ContainsFunc(app.Leaving, func(l raftstate.Leaving) bool { return takes(l.Version) }) {
			return true
		}
	}
	return false
}
