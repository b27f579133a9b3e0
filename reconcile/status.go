package reconcile

import (
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// ApplicationStatus is what there is to say of one application.
type ApplicationStatus struct {
	Name           string             `json:"name"`
	RoutePrefix    string             `json:"route_prefix"`
	Ingress        string             `json:"ingress"`
	Status         Health             `json:"status"`
	Reason         string             `json:"reason,omitempty"`
	Version        int                `json:"version"`         // wanted
	ServingVersion int                `json:"serving_version"` // takes traffic
	Rollout        raftstate.Rollout  `json:"rollout"`
	By             string             `json:"by,omitempty"`
	Message        string             `json:"message,omitempty"`
	DeployedAt     time.Time          `json:"deployed_at"`
	ModifyIndex    uint64             `json:"modify_index"`
	Deployments    []DeploymentStatus `json:"deployments"` // in the spec's order; a version on its way in follows the one that it replaces

	Stage  string `json:"stage,omitempty"`  // of the rollout that goes on, its name
	Stages int    `json:"stages,omitempty"` // how many that rollout has; Rollout.Stage counts from 0
	Weight int    `json:"weight,omitempty"` // percent of the requests that the newest version's generation takes
	Waits  string `json:"waits,omitempty"`  // what the rollout needs before it goes on
	Gates  string `json:"gates,omitempty"`  // what they said last of the new version

	Leaving []LeavingStatus `json:"leaving,omitempty"` // oldest first
}

// LeavingStatus is a version that is on its way out.
type LeavingStatus struct {
	Version    int                    `json:"version"`
	Generation int                    `json:"generation,omitempty"`
	Cause      raftstate.LeavingCause `json:"cause"`
	Waits      string                 `json:"waits,omitempty"` // what it is still there for
}

// DeploymentStatus is what there is to say of one version of one deployment.
type DeploymentStatus struct {
	Name     string        `json:"name"`
	Version  string        `json:"version"` // deployment version
	JobID    string        `json:"job_id"`
	Serving  bool          `json:"serving"` // takes traffic, all of it or a part
	Wanted   bool          `json:"wanted"`  // is of the newest version
	Status   Health        `json:"status"`
	Reason   string        `json:"reason,omitempty"`
	Target   int           `json:"target_replicas"`
	Healthy  int           `json:"healthy_replicas"` // pass their health check
	Starting int           `json:"starting_replicas"`
	Unplaced int           `json:"unplaced_replicas"`
	Failed   int           `json:"failed_replicas"` // ended by themselves, of those that Nomad still lists
	Replicas []ReplicaInfo `json:"replicas"`        // newest first, those that stopped as asked left out

	Generation int `json:"generation,omitempty"` // see raftstate.Version

	Edited bool `json:"edited,omitempty"` // somebody edited its job in Nomad: its replicas are not what was deployed

	Grows bool `json:"-"` // it lacks replicas only because more were asked for, of those that have a place

	Surge       int    `json:"surge_replicas,omitempty"` // that run beside the target while nodes drain
	SurgeReason string `json:"surge_reason,omitempty"`   // "1 more while node gpu-1a2b3c4d drains"

	Autoscaling *AutoscalingStatus `json:"autoscaling,omitempty"` // nil: its target is set by people alone
}

// AutoscalingStatus is what there is to say of how a deployment's target is
// set.
type AutoscalingStatus struct {
	Policy    string             `json:"policy"`
	Min       int                `json:"min_replicas"`
	Max       int                `json:"max_replicas"`
	Schedules int                `json:"schedules,omitempty"` // how many there are that set other bounds at times
	Last      *raftstate.Scaling `json:"last,omitempty"`      // nil: a deploy set the target last
}

// ReplicaInfo is what there is to say of one replica.
type ReplicaInfo struct {
	ID        string        `json:"id"` // allocation id
	Status    ReplicaStatus `json:"status"`
	Healthy   bool          `json:"healthy"`
	Node      string        `json:"node"`
	Address   string        `json:"address,omitempty"`
	Restarts  int           `json:"restarts"`
	Reason    string        `json:"reason,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
}

// Health is a one-word status, of an application or a deployment.
type Health string

// The words for health.
const (
	Deploying Health = "deploying" // not all there yet, and still on the way
	Healthy   Health = "healthy"   // every replica that is wanted passes
	Scaling   Health = "scaling"   // serves as before, and more replicas start because they were asked for
	Degraded  Health = "degraded"  // serves, with fewer replicas than wanted
	Unhealthy Health = "unhealthy" // serves nothing
	Failed    Health = "failed"    // the newest version did not get there; the old one, if any, serves
	Deleting  Health = "deleting"
	Unknown   Health = "unknown" // Nomad or Consul did not answer
)
