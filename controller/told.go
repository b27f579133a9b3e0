package controller

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// toleratedClock is how much a node's clock may be behind that of Nomad's
// servers.
const toleratedClock = 2 * time.Second

// told is what one replica was told of its user_config, and what came of it. It
// is guarded by configurer.mu.
type told struct {
	hash, job               string
	application, deployment string
	restarts                int       // of the replica, as it was told
	since                   time.Time // when it was told, or passed again
	passing                 bool      // as last seen
	confirmed               bool
	refused                 string // why it has not taken it; "": it has, or may still
	reported                bool   // that it has not

	// Of a call.
	cancel   context.CancelFunc // nil: there was none
	answered bool
	answer   string // why it does not take it; "": it does
	fault    string // why it could not be asked, the last time

	// Of a signal.
	seen, before evidence  // as last seen, and before this config was written
	known        bool      // before is
	settling     time.Time // since when it is seen to have been signalled
}

// evidence is when a replica's process started and when it was last signalled,
// by the clock of its node.
type evidence struct{ started, signalled time.Time }

func evidenceOf(r reconcile.Replica) evidence { return evidence{r.StartedAt, r.SignalledAt} }

// begun begins to tell a replica; old is what it was told before, or nil. One
// that was made after the config was written has read it as it started.
func begun(old *told, t reconcile.ConfigTarget, now time.Time) *told {
	k := &told{
		hash: t.Hash, job: t.Replica.JobID, application: t.Application, deployment: t.Deployment.Name, restarts: t.Replica.Restarts, since: now, seen: evidenceOf(t.Replica),
		confirmed: !t.Replica.CreatedAt.Before(t.WrittenAt),
	}
	if old != nil {
		old.hangUp()
		k.before, k.known = old.seen, true
	}
	return k
}

func (k *told) settled() bool { return k.confirmed || k.refused != "" }

func (k *told) hangUp() {
	if k.cancel != nil {
		k.cancel()
	}
}

// missed says whether a replica that had taken its config by a call has started
// again since: its file may have been rendered only after that.
func (k *told) missed(t reconcile.ConfigTarget) bool {
	return k.confirmed && k.cancel != nil && t.Replica.Restarts != k.restarts
}

// judge decides whether a replica has taken its config, and returns when only
// time can bring something on, if so. The time of one that does not pass does not
// count: it may not have started yet.
func (k *told) judge(t reconcile.ConfigTarget, now time.Time) (due time.Time) {
	if !k.passing {
		k.since, k.settling = now, time.Time{}
	}
	k.passing, k.seen = t.Passing, evidenceOf(t.Replica)
	switch {
	case k.settled():
		return time.Time{}
	case k.answered:
		k.confirmed, k.refused = k.answer == "", k.answer
		return time.Time{}
	case !t.Passing:
		return time.Time{}
	case t.Deployment.Reconfigure.Signal != "":
		if due = k.judgeSignal(t, now); k.confirmed || !due.IsZero() {
			return due
		}
	}
	within := t.Deployment.Reconfigure.Within()
	if due = k.since.Add(within); now.Before(due) {
		return due
	}
	if signal := t.Deployment.Reconfigure.Signal; signal != "" {
		k.refused = fmt.Sprintf("Nomad has not sent it %s within %s", signal, within)
	} else {
		k.refused = fmt.Sprintf("it has not answered within %s: %s", within, cmp.Or(k.fault, "it was not asked"))
	}
	return time.Time{}
}

// judgeSignal lets a replica that was signalled after its file changed confirm by
// going on to run and pass for a period of its check.
func (k *told) judgeSignal(t reconcile.ConfigTarget, now time.Time) (due time.Time) {
	from := k.before
	if !k.known {
		at := t.WrittenAt.Add(-toleratedClock)
		from = evidence{at, at}
	}
	is := evidenceOf(t.Replica)
	switch {
	case is.signalled.After(from.signalled):
		if k.settling.IsZero() {
			k.settling = now
		}
		due = k.settling.Add(min(t.Deployment.HealthCheck.Period.Std(), t.Deployment.Reconfigure.Within()/2))
		if now.Before(due) {
			return due
		}
		k.confirmed = true
	case is.started.After(from.started): // it has read the new file
		k.confirmed = true
	}
	return time.Time{}
}
