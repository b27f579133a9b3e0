package appspec

// Fault is one thing that is wrong with a spec, wherever it came from.
type Fault struct {
	Path    string `json:"path"`    // "application.search.deployment.ranker.num_replicas"
	Message string `json:"message"` // what is wrong, and what would be right
}
