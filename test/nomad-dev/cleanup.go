package nomaddev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/serve-nomad/serve-nomad/proctable"
)

// How long Cleanup waits for a process to end after it was asked to.
const (
	agentGrace = 20 * time.Second // Nomad stops its tasks first
	taskGrace  = 3 * time.Second
)

// Cleaned is what Cleanup found and ended.
type Cleaned struct {
	Processes []string // what each was, for people
	Mounts    []string
}

// Cleanup ends what is still running out of a run folder after a crash, and
// nothing else: the processes recorded there, if their pid is still theirs, then
// Nomad's executors and tasks that bear the folder's mark, then what is mounted
// below it, and the cgroups of its allocations. It must not be called while a run uses the folder. When ctx ends it
// does not wait for anything to end by itself.
func Cleanup(ctx context.Context, runDir string) (Cleaned, error) {
	var done Cleaned
	dir, err := absolute(runDir)
	if err != nil {
		return done, err
	}
	records, err := readRecords(dir)
	if err != nil {
		return done, err
	}
	var errs []error
	for _, r := range records {
		if r.alive() {
			done.Processes = append(done.Processes, fmt.Sprintf("%s (pid %d)", r.name, r.Pid))
			errs = append(errs, endAll(ctx, []record{r}, agentGrace))
		}
		os.Remove(r.path) //nolint:errcheck // the record of a process that has ended does no harm
	}
	// A task that is ended may have started another one meanwhile: look again.
	for range 5 {
		left := leftovers(dir)
		if len(left) == 0 {
			break
		}
		for _, r := range left {
			done.Processes = append(done.Processes, fmt.Sprintf("%s (pid %d)", r.name, r.Pid))
		}
		if err = endAll(ctx, left, taskGrace); err != nil {
			errs = append(errs, err)
			break
		}
	}
	points, err := proctable.MountsBelow(dir)
	if err != nil {
		errs = append(errs, err)
	}
	for _, point := range points {
		if err = proctable.Unmount(point); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
			continue
		}
		done.Mounts = append(done.Mounts, point)
	}
	for _, group := range cgroups("/sys/fs/cgroup", dir) {
		os.Remove(group) //nolint:errcheck // one that is not empty stays, and an empty one that stays does no harm
	}
	return done, errors.Join(errs...)
}

// endAll asks processes to end, waits, and kills those that have not.
func endAll(ctx context.Context, all []record, grace time.Duration) error {
	for _, r := range all {
		r.signal(terminate) //nolint:errcheck // those that do not end are killed below
	}
	gone := func() bool {
		for _, r := range all {
			if r.alive() {
				return false
			}
		}
		return true
	}
	if waitGone(grace, func() bool { return ctx.Err() != nil || gone() }) && gone() {
		return nil
	}
	var errs []error
	for _, r := range all {
		if err := r.signal((*os.Process).Kill); err != nil {
			errs = append(errs, fmt.Errorf("kill %s (pid %d): %w", r.name, r.Pid, err))
		}
	}
	if len(errs) == 0 && !waitGone(5*time.Second, gone) {
		errs = append(errs, fmt.Errorf("%d processes do not end", len(all)))
	}
	return errors.Join(errs...)
}

// signal sends a signal if the process is still the recorded one. The process is
// held on to before that is looked at, so that its pid cannot change hands
// between the look and the signal where the system can hold a process.
func (r record) signal(send func(*os.Process) error) error {
	p, err := os.FindProcess(r.Pid)
	if err != nil {
		return nil // there is none any more
	}
	defer p.Release() //nolint:errcheck // nothing to do about it
	if !r.alive() {
		return nil
	}
	if err = send(p); errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// RemoveData removes a folder of a run folder and all that is in it. It refuses
// while something is mounted below, because that would remove what is mounted.
func RemoveData(dir string) error {
	dir, err := absolute(dir)
	if err != nil {
		return err
	}
	points, err := proctable.MountsBelow(dir)
	if err != nil {
		return err
	}
	if len(points) > 0 {
		return fmt.Errorf("remove %s: %s is still mounted", dir, points[0])
	}
	return os.RemoveAll(dir)
}
