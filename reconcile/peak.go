package reconcile

import (
	"slices"

	"github.com/serve-nomad/serve-nomad/jobspec"
)

// JobCount is how many replicas one job has before, during and after some
// steps.
type JobCount struct {
	Job         string `json:"job"` // id
	Application string `json:"application"`
	Deployment  string `json:"deployment"`
	Version     string `json:"version"` // deployment version
	Now         int    `json:"now"`
	Peak        int    `json:"peak"` // when all jobs together have the most
	Then        int    `json:"then"`
}

// JobCounts returns what comes of the jobs that steps touch, those of replicas,
// in the order in which the steps do.
func JobCounts(world *World, steps []Step) []JobCount {
	var list []JobCount
	total, most := 0, 0
	for _, s := range steps {
		touched, count, ok := s.sets(world)
		if !ok {
			continue
		}
		i := slices.IndexFunc(list, func(c JobCount) bool { return c.Job == touched.Job })
		if i < 0 {
			i = len(list)
			touched.Now = world.replicasOf(touched.Job)
			touched.Peak, touched.Then = touched.Now, touched.Now
			list = append(list, touched)
		}
		total += count - list[i].Then
		list[i].Then = count
		if total > most {
			most = total
			for k := range list {
				list[k].Peak = list[k].Then
			}
		}
	}
	return list
}

// sets returns the job whose count a step sets, and that count.
func (s Step) sets(world *World) (job JobCount, count int, ok bool) {
	id := ""
	switch {
	case s.Register != nil:
		meta, replicas, ours := jobspec.Read(s.Register.Job)
		if !ours || meta.Prefetch != "" {
			return JobCount{}, 0, false
		}
		return JobCount{Job: *s.Register.Job.ID, Application: meta.Application, Deployment: meta.Deployment, Version: meta.Version}, replicas, true
	case s.Update != nil:
		id, count = s.Update.JobID, s.Update.Count
	case s.Scale != nil:
		id, count = s.Scale.JobID, s.Scale.Count
	case s.Stop != nil:
		id = s.Stop.JobID
	default:
		return JobCount{}, 0, false
	}
	was := world.Jobs[id]
	return JobCount{Job: id, Application: was.Application, Deployment: was.Deployment, Version: was.Version}, count, true
}

// replicasOf returns how many replicas a job is to have now.
func (w *World) replicasOf(jobID string) int {
	job := w.Jobs[jobID]
	if job.Stopped {
		return 0
	}
	return job.Count
}
