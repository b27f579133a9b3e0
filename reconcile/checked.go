package reconcile

import "cmp"

// CheckState is where a gate's check stands.
type CheckState string

// The states of a check.
const (
	CheckMissing CheckState = "missing" // there is no job of it, or it was stopped
	CheckRunning CheckState = "running"
	CheckPassed  CheckState = "passed"
	CheckFailed  CheckState = "failed"
)

// Checked says where the check stands whose job has this id, see jobspec.CheckID,
// and what it waits for or why it failed.
func (w *World) Checked(jobID string) (state CheckState, reason string) {
	job, exists := w.Jobs[jobID]
	if !exists || job.Stopped {
		return CheckMissing, ""
	}
	last := w.newest(jobID)
	switch {
	case last == nil:
		return CheckRunning, job.Blocked
	case last.Status == ReplicaStopped:
		return CheckPassed, ""
	case last.Status == ReplicaFailed:
		return CheckFailed, cmp.Or(last.Reason, "Nomad does not say why")
	case last.Status == ReplicaLost:
		return CheckFailed, "the node that it ran on is gone"
	default:
		return CheckRunning, last.Reason
	}
}

// newest returns the last replica that was made of a job, or nil.
func (w *World) newest(jobID string) *Replica {
	var last *Replica
	for i, r := range w.Replicas {
		if r.JobID == jobID && (last == nil || r.CreatedAt.After(last.CreatedAt)) {
			last = &w.Replicas[i]
		}
	}
	return last
}
