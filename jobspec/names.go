package jobspec

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// JobPrefix begins the id of every job that serve-nomad makes.
const JobPrefix = "serve-"

// PortLabel is the label of a replica's port.
const PortLabel = "http"

// maxServiceName is the longest name that Nomad and Consul's DNS take.
const maxServiceName = 63

// JobID returns the id of the Nomad job of one deployment version.
func JobID(application, deployment, version string) string {
	return JobPrefix + application + "-" + deployment + "-" + version
}

// ServiceName returns the name of the Consul service of a deployment's
// replicas, of every version. Deployment "b-c" of application "a" and "c" of
// "a-b" share a name: the service's meta says whose replica an instance is.
func ServiceName(application, deployment string) string {
	name := JobPrefix + application + "-" + deployment
	if len(name) <= maxServiceName && !strings.HasSuffix(name, "-") {
		return name
	}
	suffix := "-" + hash8(application+"/"+deployment)
	if keep := maxServiceName - len(suffix); len(name) > keep {
		name = name[:keep]
	}
	return strings.TrimRight(name, "-") + suffix
}

// HandleEnv returns the name of the variable in which a replica finds the URL
// of a deployment that it calls.
func HandleEnv(deployment string) string {
	return "SERVE_HANDLE_" + strings.ToUpper(strings.ReplaceAll(deployment, "-", "_"))
}

// HandleURL returns the URL of a deployment on the node's own proxy, of the
// given generation of its application.
func HandleURL(address, application string, generation int, deployment string) string {
	if generation > 0 {
		application += "@" + strconv.Itoa(generation)
	}
	return "http://" + address + "/" + application + "/" + deployment
}

// jobName is what people read in lists of jobs; it names the version because
// an old and a new one stand beside each other during a rollout.
func jobName(application, deployment, version string) string {
	return application + "/" + deployment + "@" + version
}

// uiLink points at the control API, the one page that every version of
// serve-nomad answers: a job keeps the link that it was made with.
func uiLink(address string, app *appspec.Application) string {
	return strings.TrimRight(address, "/") + "/v1/applications/" + app.Name
}

func hash8(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}
