package jobspec

import (
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// userConfigFile is where a replica finds its user_config, below its task
// folder.
const userConfigFile = "serve/user_config.json"

// templateDelimiters cannot occur in JSON, which escapes control characters,
// so nothing in a user_config is ever taken for a template.
const (
	leftDelimiter  = "\x01"
	rightDelimiter = "\x02"
)

// ConfigPrefix begins the path of every Nomad variable that holds a user_config.
const ConfigPrefix = "nomad/jobs/" + JobPrefix

// ConfigItem is the item of that variable with the user_config's JSON.
const ConfigItem = "config"

// ConfigPath returns the path of the Nomad variable that holds the user_config
// of a job whose replicas take another one while they run. Nomad lets the
// replicas of a job read it without a policy. It is the job's and not the
// task's own, because a path has 128 characters at most.
func ConfigPath(jobID string) string { return "nomad/jobs/" + jobID }

// ConfigText returns the JSON that is to be in the file of a deployment's
// replicas, which is always there, so that a replica need not ask whether it is.
func ConfigText(dep *appspec.Deployment) string {
	if config := string(dep.UserConfig); config != "" && config != "null" {
		return config
	}
	return "{}"
}

// userConfig renders the user_config into a file: from the job itself, or, where
// replicas take another one while they run, from a variable beside it. Nomad
// replaces the replicas of a job whose templates have changed.
func (in Input) userConfig() *api.Template {
	if in.Deployment.Reconfigure != nil {
		return in.liveConfig(in.Deployment.Reconfigure)
	}
	return &api.Template{
		EmbeddedTmpl: new(ConfigText(in.Deployment)),
		DestPath:     new("local/" + userConfigFile),
		ChangeMode:   new("noop"),
		LeftDelim:    new(leftDelimiter),
		RightDelim:   new(rightDelimiter),
	}
}

// liveConfig renders the variable, and each new value of it in place. A replica
// does not start until it is there.
func (in Input) liveConfig(r *appspec.Reconfigure) *api.Template {
	path := ConfigPath(JobID(in.Application.Name, in.Deployment.Name, in.Version))
	t := &api.Template{
		EmbeddedTmpl: new(`{{ with nomadVar "` + path + `" }}{{ .` + ConfigItem + ` }}{{ end }}`),
		DestPath:     new("local/" + userConfigFile),
		ChangeMode:   new("noop"),
		Splay:        new(time.Duration(0)),
		// Clients wait 5 s for more changes, if nothing is said.
		Wait: &api.WaitConfig{Min: new(time.Duration(0)), Max: new(time.Duration(0))},
	}
	if r.Signal != "" {
		t.ChangeMode, t.ChangeSignal = new("signal"), new(r.Signal)
	}
	return t
}
