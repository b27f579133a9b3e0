package controller

import (
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// hands is what the loop knows of its own writes to jobs in Nomad, by job: until
// when a look that begins may show one for the first time. What such a look does
// not explain was done by somebody else.
type hands map[string]time.Time

// wrote notes that step was done at that moment, or tried: a call that failed may
// still be done by Nomad.
func (h hands) wrote(step reconcile.Step, at time.Time, err error) {
	if err != nil {
		at = at.Add(stepLimit)
	}
	switch {
	case step.Register != nil:
		h[*step.Register.Job.ID] = at
	case step.Update != nil:
		h[step.Update.JobID] = at
	case step.Scale != nil:
		h[step.Scale.JobID] = at
	case step.Stop != nil:
		h[step.Stop.JobID] = at
	}
}

func (h hands) may(jobID string) bool {
	_, wrote := h[jobID]
	return wrote
}

// looked forgets what a look that began then has seen.
func (h hands) looked(began time.Time) {
	for job, until := range h {
		if until.Before(began) {
			delete(h, job)
		}
	}
}
