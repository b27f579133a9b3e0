package appspec

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
)

// VersionOf names a version of a deployment by its content, in 8 hex digits:
// all that a replica's process depends on, so that a change which needs new
// replicas, and no other, gives a new version. How many replicas there are,
// what they are sent and the application's route do not count.
func VersionOf(app *Application, d *Deployment) string {
	content := fields{}
	if d != nil {
		maps.Copy(content, replicaFields(d))
		content["deployment"] = d.Name
	}
	if app != nil {
		content["application"] = app.Name
	}
	// A map's JSON has its keys in order.
	sum := sha256.Sum256([]byte(jsonText(content)))
	return hex.EncodeToString(sum[:4])
}
