package appspec

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Recurrence is a time that comes again and again and lasts for a while, as a
// schedule says it: ready to be asked. It is never changed.
type Recurrence struct {
	begins cron.Schedule
	lasts  time.Duration
	zone   *time.Location
}

// NewRecurrence reads the times of a schedule. Validate finds what is an error
// here, with its place.
func NewRecurrence(line string, lasts Duration, timezone string) (Recurrence, error) {
	if strings.Contains(line, "TZ=") { // the library cannot bear every such line
		return Recurrence{}, fmt.Errorf("cron line %q: it names a time zone", line)
	}
	begins, err := cron.ParseStandard(line)
	if err != nil {
		return Recurrence{}, fmt.Errorf("cron line %q: %w", line, err)
	}
	zone, err := time.LoadLocation(timezone)
	if err != nil {
		return Recurrence{}, fmt.Errorf("time zone %q: %w", timezone, err)
	}
	return Recurrence{begins, lasts.Std(), zone}, nil
}

// InForce says whether it began within its duration before now. The cron line
// is followed on the zone's wall clock, which has a midnight on every day; by
// the zone's own time the library skips a day whose midnight the clock change
// takes away.
func (r Recurrence) InForce(now time.Time) bool {
	ended := now.Add(-r.lasts)
	for wall := r.wallBefore(ended); ; {
		if wall = r.begins.Next(wall); wall.IsZero() {
			return false
		}
		if began := offWall(wall, r.zone); began.After(ended) {
			return !began.After(now)
		}
	}
}

// wallBefore is what the clock on the wall shows at t. In the hour after it was
// put forward it is what it would show otherwise: what was to begin in the hour
// that was left out begins after it.
func (r Recurrence) wallBefore(t time.Time) time.Time {
	_, offset := t.In(r.zone).Zone()
	_, before := t.Add(-time.Hour).In(r.zone).Zone()
	return onWall(t.In(r.zone)).Add(-time.Duration(max(0, offset-before)) * time.Second)
}

// onWall is what the clock on the wall shows, as if it were UTC.
func onWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// offWall is when the clock on the wall of a zone shows wall.
func offWall(wall time.Time, zone *time.Location) time.Time {
	return time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
}
