package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// ByOthers says in events what became of this cluster's jobs between two looks at
// Nomad that this server had no part in: somebody stopped, scaled, purged or
// edited one. Ours says whether this server may have written a job meanwhile. Of
// a change of Nomad's own, such as a replica that is placed, a job's ModifyIndex
// is not another one.
func ByOthers(clusterID string, before, after *World, ours func(jobID string) bool, now time.Time) []raftstate.Event {
	if before == nil || !after.NomadKnown {
		return nil
	}
	o := observer{now: now}
	for _, id := range slices.Sorted(maps.Keys(before.Jobs)) {
		was, is := before.Jobs[id], after.Jobs[id]
		if was.ClusterID != clusterID || was.ModifyIndex == is.ModifyIndex || ours(id) {
			continue
		}
		if what := byOthers(was, is); what != "" {
			o.add("job-changed", was, fmt.Sprintf("job %s: somebody else than this server %s", id, what))
		}
	}
	return o.events
}

// byOthers says what was done to a job; is.ID is "" when there is none any more.
func byOthers(was, is Job) string {
	switch {
	case is.ID == "" && was.Stopped:
		return "" // Nomad's garbage collection
	case is.ID == "":
		return "stopped and purged it"
	case is.Stopped && !was.Stopped:
		return "stopped it"
	}
	var did []string
	if was.Stopped && !is.Stopped {
		did = append(did, "started it")
	}
	if was.Count != is.Count {
		did = append(did, fmt.Sprintf("set its count from %d to %d", was.Count, is.Count))
	}
	switch {
	case is.Edited:
		did = append(did, "edited it; its replicas are not what was deployed until another version of the deployment is")
	case was.Edited:
		did = append(did, "set it back to what was deployed")
	case was.LiveHash != is.LiveHash:
		did = append(did, "changed its limits")
	case len(did) == 0:
		did = append(did, "wrote it again; its replicas are what was deployed")
	}
	return strings.Join(did, ", and ")
}
