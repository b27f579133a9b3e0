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
	t := tally{world: world, shrank: map[string]bool{}}
	for _, s := range steps {
		job, count, ok := s.sets(world)
		if !ok {
			t.moment() // something is waited for
			continue
		}
		t.set(job, count)
	}
	t.moment()
	return t.list
}

// tally follows the counts of jobs from step to step.
type tally struct {
	world       *World
	list        []JobCount
	total, most int             // replicas more than at first
	shrank      map[string]bool // jobs that the last steps took some away from
}

// set gives a job another count. What takes away belongs to the steps before it,
// which gave: they are done together, and the one waits for the room of the other.
// A job that loses some once more does so later, when what was given is there.
func (t *tally) set(job JobCount, count int) {
	i := slices.IndexFunc(t.list, func(c JobCount) bool { return c.Job == job.Job })
	if i < 0 {
		i = len(t.list)
		job.Now = t.world.replicasOf(job.Job)
		job.Peak, job.Then = job.Now, job.Now
		t.list = append(t.list, job)
	}
	change := count - t.list[i].Then
	if change > 0 && len(t.shrank) > 0 || change < 0 && t.shrank[job.Job] {
		t.moment()
	}
	if change < 0 {
		t.shrank[job.Job] = true
	}
	t.total += change
	t.list[i].Then = count
}

// moment notes the counts if there were never as many replicas as now.
func (t *tally) moment() {
	t.shrank = map[string]bool{}
	if t.total <= t.most {
		return
	}
	t.most = t.total
	for k := range t.list {
		t.list[k].Peak = t.list[k].Then
	}
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
