package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// progress shows how rollouts go: on a terminal as a block of lines that is
// drawn over, elsewhere as one line for each change.
type progress struct {
	out      io.Writer
	terminal bool
	quiet    bool // draw nothing, keep the notes
	started  time.Time

	drawn int                 // lines of the block on the terminal
	last  map[string]string   // job id -> the line that was written last
	waits map[string]waitLine // application -> the line about its rollout that was written last
	kept  []string            // notes of a quiet one
}

// waitLine is a line about a rollout.
type waitLine struct {
	where string // the stage
	line  string // the whole
	at    time.Time
}

// waitPause is how long a rollout's line stands, where lines are not drawn over,
// before the next one that differs only in what it waits for: that counts up and
// down.
const waitPause = 10 * time.Second

// Terminal control: lines longer than the terminal is wide are cut while the
// block is drawn, so that going up by lines goes up by rows.
const (
	wrapOff   = "\x1b[?7l"
	wrapOn    = "\x1b[?7h"
	clearDown = "\r\x1b[J"
)

// draw shows where the applications stand.
func (p *progress) draw(outcomes []outcome) {
	if p.quiet {
		return
	}
	if !p.terminal {
		p.changes(outcomes)
		return
	}
	var block strings.Builder
	lines := 0
	for _, o := range outcomes {
		if o.status.Name == "" {
			continue
		}
		fmt.Fprintf(&block, "  %s version %d: %s, %s\n", o.name, o.status.Version, o.status.Status, p.elapsed())
		lines++
		if where, why := rolloutLine(o.status); where != "" {
			for _, line := range append([]string{where}, why...) {
				block.WriteString("    " + line + "\n")
				lines++
			}
		}
		for _, d := range wanted(o.status) {
			block.WriteString("    " + deploymentLine(d) + "\n")
			lines++
			if reason := missingReason(d, time.Now()); reason != "" {
				block.WriteString("      " + reason + "\n")
				lines++
			}
		}
	}
	p.write(p.erase() + wrapOff + block.String() + wrapOn)
	p.drawn = lines
}

// changes writes a line for each deployment that changed.
func (p *progress) changes(outcomes []outcome) {
	for _, o := range outcomes {
		p.stage(o)
		for _, d := range wanted(o.status) {
			line := deploymentLine(d)
			if reason := missingReason(d, time.Now()); reason != "" {
				line += " (" + reason + ")"
			}
			if p.last[d.JobID] != line {
				p.last[d.JobID] = line
				p.write(fmt.Sprintf("  [%s] %s/%s\n", p.elapsed(), o.name, line))
			}
		}
	}
}

// stage writes a line about the rollout when it goes on, and now and then about
// what it waits for.
func (p *progress) stage(o outcome) {
	where, why := rolloutLine(o.status)
	now := waitLine{where, strings.Join(append([]string{where}, why...), "; "), time.Now()}
	last := p.waits[o.name]
	if where == "" || now.line == last.line || now.where == last.where && now.at.Sub(last.at) < waitPause {
		return
	}
	p.waits[o.name] = now
	p.write(fmt.Sprintf("  [%s] %s: %s\n", p.elapsed(), o.name, now.line))
}

// note writes lines that stay.
func (p *progress) note(lines ...string) {
	if p.quiet {
		p.kept = append(p.kept, lines...)
		return
	}
	var text strings.Builder
	for _, line := range lines {
		text.WriteString("  " + printable(line) + "\n")
	}
	p.write(p.erase() + text.String())
	p.drawn = 0
}

// close leaves the last block where it is.
func (p *progress) close() { p.drawn = 0 }

func (p *progress) erase() string {
	if p.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA", p.drawn) + clearDown
}

func (p *progress) elapsed() string {
	return time.Since(p.started).Round(time.Second).String()
}

func (p *progress) write(text string) {
	_, _ = io.WriteString(p.out, text) // base.finish reports it
}

// rolloutLine says in which stage a rollout is, and what it waits for; "" of one
// that is over, or that has nothing to take over from.
func rolloutLine(s reconcile.ApplicationStatus) (where string, why []string) {
	if s.Rollout.Status != raftstate.RolloutRunning || s.Version == s.ServingVersion || s.Rollout.Strategy == "" {
		return "", nil
	}
	where = string(s.Rollout.Strategy)
	if stage := stageText(s); stage != "" {
		where += ", " + stage
	}
	if p := s.Rollout.Paused; p != nil {
		where += ", paused " + pauseText(p)
	}
	if s.Waits != "" && s.Rollout.Paused == nil {
		why = append(why, "waits: "+printable(s.Waits))
	}
	if s.Gates != "" {
		why = append(why, "gates: "+printable(s.Gates))
	}
	return printable(where), why
}

// stageText says where a rollout is: "stage 2 of 5 (10 percent)".
func stageText(s reconcile.ApplicationStatus) string {
	switch {
	case s.Stage == "":
		return ""
	case s.Stages == 0:
		return s.Stage
	default:
		return fmt.Sprintf("stage %d of %d (%s)", s.Rollout.Stage+1, s.Stages, s.Stage)
	}
}

// leavingLine says what a version that leaves is still there for.
func leavingLine(l reconcile.LeavingStatus) string {
	line := fmt.Sprintf("Version %d leaves, as it %s", l.Version, causeText(l.Cause))
	if l.Waits != "" {
		line += ": " + l.Waits
	}
	return line
}

// causeText says why a version leaves.
func causeText(cause raftstate.LeavingCause) string {
	switch cause {
	case raftstate.LeavingReplaced:
		return "was replaced"
	case raftstate.LeavingSuperseded:
		return "was superseded before it served"
	case raftstate.LeavingFailed:
		return "was rolled back"
	case raftstate.LeavingAborted:
		return "was aborted"
	default:
		return string(cause)
	}
}

// wanted lists what is on its way; the version that it replaces is not
// worth a line.
func wanted(s reconcile.ApplicationStatus) []reconcile.DeploymentStatus {
	var list []reconcile.DeploymentStatus
	for _, d := range s.Deployments {
		if d.Wanted {
			list = append(list, d)
		}
	}
	return list
}

func deploymentLine(d reconcile.DeploymentStatus) string {
	return fmt.Sprintf("%s %s: %s", d.Name, d.Version, counts(d))
}

// checkPatience is how long a replica may run before it is worth saying that its
// health check does not pass.
const checkPatience = 10 * time.Second

// missingReason says why replicas are missing, "" when none are or when it is too
// early to say.
func missingReason(d reconcile.DeploymentStatus, now time.Time) string {
	if d.Healthy >= d.Target || d.Reason != "" {
		return printable(d.Reason)
	}
	for _, r := range d.Replicas {
		if r.Status == reconcile.ReplicaRunning && !r.Healthy && r.Address != "" && now.Sub(r.CreatedAt) > checkPatience {
			return fmt.Sprintf("replica %s runs, but its health check at %s does not pass", short(r.ID), printable(r.Address))
		}
	}
	return ""
}

// missingReasons is missingReason of an application.
func missingReasons(s reconcile.ApplicationStatus, now time.Time) string {
	if s.Reason != "" {
		return s.Reason
	}
	for _, d := range s.Deployments {
		if reason := missingReason(d, now); reason != "" {
			return d.Name + ": " + reason
		}
	}
	return ""
}
