package jobspec

import (
	"cmp"
	"maps"
	"strconv"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// The keys of the meta that a job, a service, or both carry. What a job says
// of itself in its own meta cannot change while it lives: Nomad hands job meta
// to the tasks, so it would replace every replica.
const (
	ClusterIDMeta          = "serve_cluster_id"           // job
	ApplicationMeta        = "serve_application"          // job and service
	DeploymentMeta         = "serve_deployment"           // job and service
	WorkerGroupMeta        = "serve_worker_group"         // job of a prefetch block
	PrefetchMeta           = "serve_prefetch"             // job of a prefetch block: its name
	CheckMeta              = "serve_check"                // job of a gate's check: its name
	VersionMeta            = "serve_version"              // job and service
	CoreMHzMeta            = "serve_core_mhz"             // job
	SpecMeta               = "serve_spec"                 // job of a deployment: digest of what its replicas run as, see Edited
	ReplicaMeta            = "serve_replica"              // service: the allocation id
	MaxOngoingRequestsMeta = "serve_max_ongoing_requests" // service
	LiveHashMeta           = "serve_live_hash"            // service
)

// Meta is what a job says of itself: that it is of a deployment, or a gate's
// check, which has no Deployment, or of a prefetch block, which has no
// Application either.
type Meta struct {
	ClusterID   string
	Application string
	Deployment  string
	WorkerGroup string // of a prefetch block alone
	Prefetch    string // its name
	Check       string // of a gate's check alone: its name
	Version     string // deployment version, that of the prefetch block, or the application's that is checked
	CoreMHz     int    // MHz per core that it was rendered with
	LiveHash    string // see LiveHash; only Read finds it
}

// ReadMeta reads the meta of a job and says whether serve-nomad made the job.
func ReadMeta(meta map[string]string) (Meta, bool) {
	m := Meta{
		ClusterID:   meta[ClusterIDMeta],
		Application: meta[ApplicationMeta],
		Deployment:  meta[DeploymentMeta],
		WorkerGroup: meta[WorkerGroupMeta],
		Prefetch:    meta[PrefetchMeta],
		Check:       meta[CheckMeta],
		Version:     meta[VersionMeta],
	}
	if mhz, err := strconv.Atoi(meta[CoreMHzMeta]); err == nil {
		m.CoreMHz = mhz
	}
	return m, m.ClusterID != "" && m.Version != "" && m.kinds() == 1
}

// kinds counts what the job says that it is.
func (m Meta) kinds() (n int) {
	for _, is := range []bool{
		m.Application != "" && m.Deployment != "",
		m.Application != "" && m.Check != "",
		m.WorkerGroup != "" && m.Prefetch != "",
	} {
		if is {
			n++
		}
	}
	return n
}

// group returns the name of the task group that has a count; a prefetch job's has
// none.
func (m Meta) group() string { return cmp.Or(m.Deployment, m.Check) }

// Read reads what a whole job says of itself and how many replicas it asks
// for, and says whether serve-nomad made the job.
func Read(job *api.Job) (m Meta, count int, ours bool) {
	m, ours = ReadMeta(job.Meta)
	if !ours {
		return m, 0, false
	}
	for _, group := range job.TaskGroups {
		if group.Name == nil || *group.Name != m.group() {
			continue
		}
		if group.Count != nil {
			count = *group.Count
		}
		for _, service := range group.Services {
			if hash := service.Meta[LiveHashMeta]; hash != "" {
				m.LiveHash = hash
			}
		}
	}
	return m, count, true
}

// LiveHash returns a hash of what a job holds that is not part of the
// deployment version and not the count. A job whose hash differs is updated,
// which Nomad does in place: no replica restarts.
func LiveHash(_ *appspec.Application, dep *appspec.Deployment) string {
	return hash8(MaxOngoingRequestsMeta + "=" + strconv.Itoa(dep.MaxOngoingRequests))
}

// LiveMeta returns the part of a service's meta that may change while the job
// lives.
func LiveMeta(app *appspec.Application, dep *appspec.Deployment) map[string]string {
	return map[string]string{
		MaxOngoingRequestsMeta: strconv.Itoa(dep.MaxOngoingRequests),
		LiveHashMeta:           LiveHash(app, dep),
	}
}

// SetLive sets the count of a job's group, and puts meta into that of the
// group's services. It says whether there is such a group.
func SetLive(job *api.Job, group string, count int, meta map[string]string) bool {
	for _, g := range job.TaskGroups {
		if g.Name == nil || *g.Name != group {
			continue
		}
		g.Count = new(count)
		for _, service := range g.Services {
			if service.Meta == nil {
				service.Meta = map[string]string{}
			}
			maps.Copy(service.Meta, meta)
		}
		return true
	}
	return false
}
