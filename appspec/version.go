package appspec

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
)

// VersionOf names a version of a deployment by its content, in 8 hex digits:
// all that a replica's process depends on, so that a change which needs new
// replicas, and no other, gives a new version. How many replicas there are,
// what they are sent and the application's route do not count, nor does a
// user_config that running replicas take: see ConfigOf.
func VersionOf(app *Application, d *Deployment) string {
	return versionContent(app, d).hash()
}

// ConfigOf names the content of a user_config that running replicas take, in 8
// hex digits; one of nothing is as none. "": the deployment has no reconfigure
// block, so that its user_config is part of its version.
func ConfigOf(d *Deployment) string {
	if d == nil || d.Reconfigure == nil {
		return ""
	}
	config := fields{}
	if config.userConfig(d.UserConfig); config["user_config"] == "{}" {
		config = fields{}
	}
	return config.hash()
}

// VersionWithConfig is what VersionOf would be if the user_config counted
// although running replicas take it: it names the version that takes over when
// they refuse it. Without a reconfigure block it is VersionOf.
func VersionWithConfig(app *Application, d *Deployment) string {
	content := versionContent(app, d)
	if config := ConfigOf(d); config != "" {
		content["config"] = config
	}
	return content.hash()
}

func versionContent(app *Application, d *Deployment) fields {
	content := fields{}
	if d != nil {
		maps.Copy(content, replicaFields(d))
		content["deployment"] = d.Name
	}
	if app != nil {
		content["application"] = app.Name
	}
	return content
}

func (f fields) hash() string {
	// A map's JSON has its keys in order.
	sum := sha256.Sum256([]byte(jsonText(f)))
	return hex.EncodeToString(sum[:4])
}
