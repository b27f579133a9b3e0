package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// progress shows how rollouts go: on a terminal as a block of lines that is
// drawn over, elsewhere as one line for each change.
type progress struct {
	out      io.Writer
	terminal bool
	quiet    bool // draw nothing, keep the notes
	started  time.Time

	drawn int               // lines of the block on the terminal
	last  map[string]string // job id -> the line that was written last
	kept  []string          // notes of a quiet one
}

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
