// Package appspec is the user's words: the application spec that people write
// in HCL, as Go values. Parse reads it, with every fault placed; Validate holds
// the rules that a spec from any source (HCL or the API's JSON) must keep; Diff
// says what changed between two specs.
package appspec

import (
	"encoding/json"
	"time"

	"github.com/hashicorp/nomad/api"
)

// File is what one or more spec files name. Deploying it changes what it names
// and nothing else.
type File struct {
	Applications []*Application `json:"applications"`
	WorkerGroups []*WorkerGroup `json:"worker_groups,omitempty"`
}

// Application is a set of deployments behind one route.
type Application struct {
	Name           string        `json:"name"`
	RoutePrefix    string        `json:"route_prefix"`              // "/" or "/a/b": starts with '/', no trailing '/'
	Ingress        string        `json:"ingress"`                   // name of the deployment that takes the route's requests
	RequestTimeout Duration      `json:"request_timeout,omitempty"` // 0: none; past it the proxy answers 504
	MaxBodyBytes   int64         `json:"max_body_bytes,omitempty"`  // of a request; 0: what the proxy takes, which is the upper bound in any case; past it 413
	Deployments    []*Deployment `json:"deployments"`               // in the file's order; names unique
	Rollout        *Rollout      `json:"rollout,omitempty"`         // nil: defaults
}

// Deployment returns the named deployment, or nil.
func (a *Application) Deployment(name string) *Deployment {
	for _, d := range a.Deployments {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Deployment is a set of like replicas and the limits on what they are sent.
type Deployment struct {
	Name                    string          `json:"name"`
	Protocol                string          `json:"protocol,omitempty"` // what its replicas speak; "": http, see EffectiveProtocol
	Handles                 []string        `json:"handles,omitempty"`  // names of the deployments that it calls; a DAG
	NumReplicas             int             `json:"num_replicas"`       // with Autoscaling: the initial count, see FirstReplicas
	Autoscaling             *Autoscaling    `json:"autoscaling,omitempty"`
	MaxOngoingRequests      int             `json:"max_ongoing_requests"`       // per replica, at least 1
	MaxQueuedRequests       int             `json:"max_queued_requests"`        // per deployment; -1: no limit
	PriorityHeaders         bool            `json:"priority_headers,omitempty"` // requests may say of their place in the queue
	WorkerGroup             string          `json:"worker_group,omitempty"`     // "": wherever NodePool and the task's constraints allow
	NodePool                string          `json:"node_pool,omitempty"`        // of Nomad; "": the group's, or the servers' default; "all": any
	Resources               Resources       `json:"resources"`
	Task                    *api.Task       `json:"task"` // as Nomad spells it; name and resources are ours to set
	HealthCheck             HealthCheck     `json:"health_check"`
	GracefulShutdownTimeout Duration        `json:"graceful_shutdown_timeout"`
	UserConfig              json.RawMessage `json:"user_config,omitempty"` // a JSON object, compact
	Reconfigure             *Reconfigure    `json:"reconfigure,omitempty"` // how running replicas take another UserConfig; nil: they do not, new ones do
}

// Resources is what one replica is given.
type Resources struct {
	CPU      float64 `json:"cpu"`           // cores
	MemoryMB int     `json:"memory_mb"`     // MiB
	GPU      float64 `json:"gpu,omitempty"` // below 1: a share of one GPU; from 1: whole GPUs
}

// HealthCheck says how a replica is asked whether it can serve: by an HTTP GET,
// or one of gRPC's health service, or, without a Path, by connecting to it.
type HealthCheck struct {
	Path    string   `json:"path"`              // of http and h2c; of h2c alone it may be ""
	Service string   `json:"service,omitempty"` // of grpc: what the health service is asked for; "": the server as a whole
	Period  Duration `json:"period"`
	Timeout Duration `json:"timeout"`
}

// Autoscaling says how the number of replicas follows the load. The fields up
// to Aggregation are Ray Serve's autoscaling_config, field for field.
type Autoscaling struct {
	Policy                string   `json:"policy"` // ray | kpa | external; "": ray, see EffectivePolicy
	MinReplicas           int      `json:"min_replicas"`
	MaxReplicas           int      `json:"max_replicas"`
	InitialReplicas       *int     `json:"initial_replicas,omitempty"` // nil: min_replicas
	TargetOngoingRequests float64  `json:"target_ongoing_requests"`
	UpscaleDelay          Duration `json:"upscale_delay"`
	DownscaleDelay        Duration `json:"downscale_delay"`
	DownscaleToZeroDelay  Duration `json:"downscale_to_zero_delay"`
	UpscalingFactor       float64  `json:"upscaling_factor"`
	DownscalingFactor     float64  `json:"downscaling_factor"`
	LookBackPeriod        Duration `json:"look_back_period"` // 0: the present value
	MetricsInterval       Duration `json:"metrics_interval"`
	Aggregation           string   `json:"aggregation"` // mean | max | min

	KPA       *KPA        `json:"kpa,omitempty"` // nil: defaults, if Policy is kpa, see EffectiveKPA
	Schedules []*Schedule `json:"schedule,omitempty"`
	Forecast  *Forecast   `json:"forecast,omitempty"` // nil: none
	Metric    *Metric     `json:"metric,omitempty"`   // nil: requests alone
}

// KPA is what policy "kpa" takes beside the bounds and target_ongoing_requests:
// the settings of Knative's pod autoscaler, by its names.
type KPA struct {
	StableWindow             Duration `json:"stable_window"`
	PanicWindowPercentage    float64  `json:"panic_window_percentage"`    // of StableWindow
	PanicThresholdPercentage float64  `json:"panic_threshold_percentage"` // of what the running replicas can take
	TargetUtilization        float64  `json:"target_utilization"`         // share of target_ongoing_requests to fill, up to 1
	MaxScaleUpRate           float64  `json:"max_scale_up_rate"`
	MaxScaleDownRate         float64  `json:"max_scale_down_rate"`
	ScaleDownDelay           Duration `json:"scale_down_delay"`
	ActivationScale          int      `json:"activation_scale"`        // at least so many when there is any load
	ScaleToZeroRetention     Duration `json:"scale_to_zero_retention"` // for which the last replica is kept at least
}

// Schedule sets other bounds for a while, again and again: a higher floor,
// another ceiling. Of several that are in force, and the block itself, the
// largest floor counts, and of the schedules the largest ceiling.
type Schedule struct {
	Name        string   `json:"name"`
	Cron        string   `json:"cron"`     // when it begins: five fields, or @daily and the like
	Duration    Duration `json:"duration"` // for which it is in force
	Timezone    string   `json:"timezone"` // IANA name
	MinReplicas *int     `json:"min_replicas,omitempty"`
	MaxReplicas *int     `json:"max_replicas,omitempty"`
}

// Forecast raises the floor to what the load's trend will ask for in a short
// while. It never lowers anything.
type Forecast struct {
	Window  Duration `json:"window"`            // of the load that the trend is read from
	Horizon Duration `json:"horizon,omitempty"` // how far ahead at least; the time that replicas take to start, if that is longer
}

// Metric is a number to scale on instead of, or beside, requests.
type Metric struct {
	Source   string   `json:"source"`          // prometheus | replica
	Query    string   `json:"query,omitempty"` // of prometheus: must give one number for the deployment as a whole
	Path     string   `json:"path,omitempty"`  // of replica: what is asked for at each
	Field    string   `json:"field,omitempty"` // of replica: where in the JSON answer the number is, such as "models[0].queue"
	Target   float64  `json:"target"`          // per replica
	Combine  string   `json:"combine"`         // replace: instead of requests; max: the larger of the two
	Interval Duration `json:"interval"`
	Timeout  Duration `json:"timeout"`
}

// Duration is a time.Duration that reads and writes JSON as "30s".
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns d as Go writes durations.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d as Go writes durations.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}
