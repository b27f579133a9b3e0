package jobspec

import (
	"maps"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"
)

// task returns a copy of the user's task with what a replica is promised. Ours
// wins over the user's where both set a thing, because the routing depends on
// it: name, resources, kill_timeout and the SERVE_ and PORT variables.
func (in Input) task() *api.Task {
	dep := in.Deployment
	task := clone(dep.Task)
	if task == nil {
		task = &api.Task{}
	}
	task.Name = dep.Name
	task.Resources = in.resources()
	// A client cuts this to its max_kill_timeout, 30s unless it is configured
	// otherwise: longer streams need that setting on the nodes.
	task.KillTimeout = new(time.Duration(dep.GracefulShutdownTimeout))
	if task.KillSignal == "" {
		task.KillSignal = "SIGTERM" // exec and raw_exec would send SIGINT
	}
	if task.Env == nil {
		task.Env = map[string]string{}
	}
	maps.Copy(task.Env, in.env())
	task.Templates = append(task.Templates, in.userConfig())
	publishPort(task)
	return task
}

func (in Input) env() map[string]string {
	env := map[string]string{
		"PORT":              "${NOMAD_PORT_" + PortLabel + "}",
		"SERVE_APPLICATION": in.Application.Name,
		"SERVE_DEPLOYMENT":  in.Deployment.Name,
		"SERVE_VERSION":     in.Version,
		"SERVE_REPLICA":     "${NOMAD_ALLOC_ID}",
		"SERVE_USER_CONFIG": "${NOMAD_TASK_DIR}/" + userConfigFile,
	}
	for _, name := range in.Deployment.Handles {
		env[HandleEnv(name)] = HandleURL(in.HandleAddress, in.Application.Name, in.Generation, name)
	}
	return env
}

// publishPort makes a container's port reachable from the node. Drivers that
// run on the host's own network need nothing.
func publishPort(task *api.Task) {
	if task.Driver != "docker" && task.Driver != "podman" {
		return
	}
	if _, set := task.Config["ports"]; set {
		return
	}
	mode, _ := task.Config["network_mode"].(string)
	if mode == "host" || mode == "none" || strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "task:") {
		return
	}
	if task.Config == nil {
		task.Config = map[string]any{}
	}
	task.Config["ports"] = []string{PortLabel}
}
