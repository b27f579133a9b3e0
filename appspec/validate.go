package appspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is one thing that is wrong with a spec, wherever it came from.
type Fault struct {
	Path    string `json:"path"`    // "application.search.deployment.ranker.num_replicas"
	Message string `json:"message"` // what is wrong, and what would be right
}

// The limits of what a spec may ask for. They are far above what is sensible,
// and below what would make trouble elsewhere.
const (
	maxDeployments = 1000
	maxReplicas    = 100_000
	maxRequests    = 10_000_000
	maxBody        = 1 << 50 // bytes
	maxCPU         = 4096
	minMemoryMB    = 10 // Nomad's own
	maxMemoryMB    = 64 << 20
	maxGPU         = 1024
	maxPath        = 1024
	maxUserConfig  = 256 << 10
	maxLiveConfig  = 48 << 10 // of what a Nomad variable can hold, 64 KiB
	maxFaults      = 1000

	maxTimeout = 24 * time.Hour
	minCheck   = time.Second // Nomad's and Consul's own, for period and timeout
)

// Validate says all that is wrong with an application, wherever it came from.
// It holds the rules that Parse applies too, and takes any value: nil and
// hostile ones are faults like others. A field that nothing acts on yet is a
// fault.
func Validate(app *Application) []Fault {
	v := validator{}
	v.application(app)
	return v.faults
}

// ValidateFile says all that is wrong with a file: its applications and worker
// groups, and what they must not share. What Complete sets may be left out.
func ValidateFile(file *File) []Fault {
	v := validator{}
	if file == nil {
		v.file(nil)
		return v.faults
	}
	completed := File{Applications: file.Applications}
	for _, group := range file.WorkerGroups {
		if group != nil {
			group = group.complete()
		}
		completed.WorkerGroups = append(completed.WorkerGroups, group)
	}
	v.file(&completed)
	return v.faults
}

// validator collects faults.
type validator struct {
	allowUnsupported bool
	faults           []Fault
	byName           map[string]*Deployment // of the application at hand
	names            []string               // the same, in order
}

func (v *validator) addf(path, format string, args ...any) {
	if len(v.faults) < maxFaults {
		v.faults = append(v.faults, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
	}
}

func (v *validator) unsupported(path, what string) {
	if !v.allowUnsupported {
		v.addf(path, "%s is not supported yet; leave it out.", what)
	}
}

func (v *validator) file(file *File) {
	if file == nil {
		v.addf("", "There is no file.")
		return
	}
	names, prefixes := map[string]bool{}, map[string]string{}
	for _, app := range file.Applications {
		v.application(app)
		if app == nil {
			continue
		}
		path := applicationPath(app.Name)
		if names[app.Name] {
			v.addf(path, "%s", alreadyThere("application", app.Name))
		} else if other, taken := prefixes[app.RoutePrefix]; taken {
			v.addf(path+".route_prefix", "Application %s has the route prefix %s already; each application needs its own.",
				quote(other), quote(app.RoutePrefix))
		}
		names[app.Name] = true
		prefixes[app.RoutePrefix] = app.Name
	}
	v.workerGroups(file)
}

func (v *validator) application(app *Application) {
	if app == nil {
		v.addf("application", "There is no application.")
		return
	}
	path := applicationPath(app.Name)
	v.name(path, "application", app.Name)
	if problem := routeProblem(app.RoutePrefix); problem != "" {
		v.addf(path+".route_prefix", "%s", problem)
	}
	v.duration(path+".request_timeout", app.RequestTimeout, 0)
	if app.MaxBodyBytes < 0 || app.MaxBodyBytes > maxBody {
		v.addf(path+".max_body_bytes", "A whole number from 0 to %d is needed, 0 for what the proxy takes; this is %d.", int64(maxBody), app.MaxBodyBytes)
	}
	if len(app.Deployments) > maxDeployments {
		v.addf(path, "An application has at most %d deployments; this one has %d.", maxDeployments, len(app.Deployments))
		return
	}
	v.byName, v.names = map[string]*Deployment{}, nil
	for _, d := range app.Deployments {
		switch {
		case d == nil:
			v.addf(path+".deployment", "There is no deployment.")
		case v.byName[d.Name] != nil:
			v.addf(deploymentPath(app, d), "%s", alreadyThere("deployment", d.Name))
		default:
			v.byName[d.Name] = d
			v.names = append(v.names, d.Name)
		}
	}
	for _, d := range app.Deployments {
		if d != nil {
			v.deployment(app, d)
		}
	}
	v.ingress(app)
	v.cycles(app)
	if app.Rollout != nil {
		v.rollout(path+".rollout", app.Rollout)
	}
}

func (v *validator) ingress(app *Application) {
	path := applicationPath(app.Name) + ".ingress"
	switch {
	case len(v.names) == 0:
		v.addf(applicationPath(app.Name), "An application needs at least one deployment block.")
	case app.Ingress == "":
		v.addf(path, "Which deployment takes the requests? Set ingress = deployment.%s, for example.", clip(v.names[0]))
	case v.byName[app.Ingress] == nil:
		v.addf(path, "%s", unknownDeployment(app.Ingress, v.names))
	}
}

func (v *validator) deployment(app *Application, d *Deployment) {
	path := deploymentPath(app, d)
	v.name(path, "deployment", d.Name)
	v.replicas(path, d)
	v.within(path+".max_ongoing_requests", d.MaxOngoingRequests, 1, maxRequests)
	if d.MaxQueuedRequests < -1 || d.MaxQueuedRequests > maxRequests {
		v.addf(path+".max_queued_requests", "A number from 0 to %d is needed, or -1 for no limit; this is %d.", maxRequests, d.MaxQueuedRequests)
	}
	v.handles(app, d)
	v.resources(path+".resources", d.Resources)
	v.protocol(path, d)
	v.healthCheck(path+".health_check", d)
	v.duration(path+".graceful_shutdown_timeout", d.GracefulShutdownTimeout, 0)
	v.userConfig(path+".user_config", d)
	v.reconfigure(path+".reconfigure", app, d)
	v.task(path+".task", replicaTask, d.Task, d.Name, d.Resources.GPU)
	if d.WorkerGroup != "" {
		if problem := nameProblem(d.WorkerGroup); problem != "" {
			v.addf(path+".worker_group", "%s is no worker group's name: %s", quote(d.WorkerGroup), problem)
		}
	}
	if d.NodePool != "" {
		if problem := nodePoolProblem(d.NodePool); problem != "" {
			v.addf(path+".node_pool", "%s", problem)
		}
	}
}

func (v *validator) handles(app *Application, d *Deployment) {
	path := deploymentPath(app, d) + ".handles"
	if len(d.Handles) > maxDeployments {
		v.addf(path, "A deployment calls at most %d others.", maxDeployments)
		return
	}
	seen := map[string]bool{}
	for i, handle := range d.Handles {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case len(v.faults) >= maxFaults:
			return
		case v.byName[handle] == nil:
			v.addf(at, "%s", unknownDeployment(handle, v.names))
		case seen[handle]:
			v.addf(at, "deployment.%s is listed twice.", clip(handle))
		}
		seen[handle] = true
	}
}

// cycles looks for deployments that call each other in a ring, each ring once.
func (v *validator) cycles(app *Application) {
	const (
		entered = 1
		done    = 2
	)
	state := map[string]int{}
	var walk func(name string, trail []string)
	walk = func(name string, trail []string) {
		d := v.byName[name]
		if d == nil || state[name] == done {
			return
		}
		if state[name] == entered {
			ring := append(slices.Clone(trail[slices.Index(trail, name):]), name)
			v.addf(deploymentPath(app, v.byName[ring[0]])+".handles",
				"Deployments must not call each other in a ring: %s.", clipTo(strings.Join(ring, " -> "), 400))
			return
		}
		state[name] = entered
		for _, next := range d.Handles {
			walk(next, append(trail, name))
		}
		state[name] = done
	}
	for _, name := range v.names {
		if len(v.faults) < maxFaults {
			walk(name, nil)
		}
	}
}

func (v *validator) resources(path string, r Resources) {
	if math.IsNaN(r.CPU) || r.CPU < 0.01 || r.CPU > maxCPU {
		v.addf(path+".cpu", "A number of cores from 0.01 to %d is needed; this is %g.", maxCPU, r.CPU)
	}
	if r.MemoryMB < minMemoryMB || r.MemoryMB > maxMemoryMB {
		v.addf(path+".memory", "An amount from %dMiB to %s is needed; this is %dMiB.", minMemoryMB, memoryText(maxMemoryMB), r.MemoryMB)
	}
	switch {
	case math.IsNaN(r.GPU) || r.GPU < 0 || r.GPU > maxGPU:
		v.addf(path+".gpu", "A number of GPUs from 0 to %d is needed; this is %g.", maxGPU, r.GPU)
	case r.GPU > 1 && r.GPU != math.Trunc(r.GPU):
		v.addf(path+".gpu", "From 1 on, only whole GPUs can be given; use %g or %g.", math.Floor(r.GPU), math.Ceil(r.GPU))
	case r.GPU > 0 && r.GPU < 1:
		v.unsupported(path+".gpu", "A share of a GPU (gpu between 0 and 1)")
	}
}

func (v *validator) healthCheck(path string, d *Deployment) {
	h := d.HealthCheck
	v.checkPath(path+".path", d.EffectiveProtocol(), h.Path)
	v.checkService(path+".service", d.EffectiveProtocol(), h.Service)
	v.duration(path+".period", h.Period, minCheck)
	v.duration(path+".timeout", h.Timeout, minCheck)
}

func (v *validator) userConfig(path string, d *Deployment) {
	raw := bytes.TrimSpace(d.UserConfig)
	switch {
	case len(raw) == 0:
	case d.Reconfigure != nil && len(raw) > maxLiveConfig:
		v.addf(path, "With a reconfigure block user_config holds at most %d KiB as JSON, for it goes into a Nomad variable; this is %d bytes.", maxLiveConfig>>10, len(raw))
	case len(raw) > maxUserConfig:
		v.addf(path, "user_config holds at most %d KiB as JSON; this is %d bytes.", maxUserConfig>>10, len(raw))
	case raw[0] != '{' || !json.Valid(raw):
		v.addf(path, "An object is needed, such as { threshold = 0.5 }.")
	}
}

func (v *validator) name(path, what, name string) {
	if problem := nameProblem(name); problem != "" {
		v.addf(path, "%s is no %s name: %s", quote(name), what, problem)
	}
}

func (v *validator) within(path string, n, least, most int) {
	if n < least || n > most {
		v.addf(path, "A whole number from %d to %d is needed; this is %d.", least, most, n)
	}
}

func (v *validator) duration(path string, d Duration, least time.Duration) {
	v.durationWithin(path, d, least, maxTimeout)
}

func (v *validator) durationWithin(path string, d Duration, least, most time.Duration) {
	if d.Std() < least || d.Std() > most {
		v.addf(path, "A duration from %s to %s is needed; this is %s.",
			durationText(least), durationText(most), durationText(d.Std()))
	}
}

func (v *validator) numberWithin(path string, x, least, most float64) {
	if math.IsNaN(x) || x < least || x > most {
		v.addf(path, "A number from %s to %s is needed; this is %g.", numberText(least), numberText(most), x)
	}
}

func (v *validator) numberAbove(path string, x, bottom, most float64) {
	if math.IsNaN(x) || x <= bottom || x > most {
		v.addf(path, "A number above %s, up to %s, is needed; this is %g.", numberText(bottom), numberText(most), x)
	}
}

// oneOf holds a word to a list of them.
func (v *validator) oneOf(path, word string, list ...string) {
	if slices.Contains(list, word) {
		return
	}
	quoted := make([]string, len(list))
	for i, w := range list {
		quoted[i] = strconv.Quote(w)
	}
	last := len(list) - 1
	v.addf(path, "One of %s and %s is needed; this is %s.", strings.Join(quoted[:last], ", "), quoted[last], quote(word))
}
