package appspec

// Change is one field that differs between two specs of an application.
type Change struct {
	Path   string `json:"path"` // "deployment.ranker.resources.cpu"
	Old    string `json:"old"`  // "" when it was not there
	New    string `json:"new"`  // "" when it is no longer there
	Effect Effect `json:"effect"`
}

// Effect is what a change does to what runs.
type Effect string

// The effects of a change.
const (
	EffectLive    Effect = "live"    // applied at once, no replica restarted
	EffectReplace Effect = "replace" // new replicas take over from the old ones
)
