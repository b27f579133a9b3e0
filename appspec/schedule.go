package appspec

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a machine without a time zone database reads a spec as every other does
	"unicode"

	"github.com/robfig/cron/v3"
)

const (
	maxCron     = 256
	maxTimezone = 64
)

// cronProblem says why a schedule cannot begin by a cron line. What would upset
// the cron library, or mean something that the other fields say, does not reach
// it.
func cronProblem(line string) string {
	const right = "Write minute, hour, day of the month, month and day of the week, such as \"0 8 * * mon-fri\" for 8:00 from Monday to Friday, or one of @hourly, @daily, @weekly, @monthly and @yearly."
	if strings.TrimSpace(line) == "" {
		return "When does it begin? Set cron = \"0 8 * * mon-fri\", for example."
	}
	if len(line) > maxCron {
		return fmt.Sprintf("A cron line has at most %d characters; this has %d.", maxCron, len(line))
	}
	if strings.Contains(line, "TZ=") {
		return "A cron line names no time zone here; set timezone = \"Europe/Berlin\", for example."
	}
	if strings.HasPrefix(strings.TrimSpace(line), "@every") {
		return "@every begins whenever a server starts, so it names no time; write \"*/30 * * * *\" for every half hour of the clock in timezone, for example."
	}
	problem := fmt.Sprintf("%s is no cron line. %s", quote(line), right)
	if strings.ContainsFunc(line, unicode.IsControl) || slices.ContainsFunc(strings.Fields(line), hasGap) {
		return problem
	}
	schedule, err := cron.ParseStandard(line)
	if err != nil {
		why, _, _ := strings.Cut(err.Error(), ": strconv.")
		return fmt.Sprintf("%s is no cron line: %s. %s", quote(line), clip(why), right)
	}
	// Any day of a leap year will do to begin from.
	if schedule.Next(time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return fmt.Sprintf("%s never comes: no month that it names has such a day.", quote(line))
	}
	return ""
}

// hasGap finds a list with nothing between two commas: the library reads one of
// commas alone as no time at all, and looks for it for years.
func hasGap(field string) bool {
	return slices.Contains(strings.Split(field, ","), "")
}

// timezoneProblem holds a time zone to names that mean the same everywhere.
func timezoneProblem(name string) string {
	problem := fmt.Sprintf("%s is no time zone; use a name of the IANA database, such as \"Europe/Berlin\", or \"UTC\".", quote(name))
	// IANA's names begin with a capital letter. Others that a machine may know,
	// such as "localtime" and "right/UTC", are its own.
	if name == "" || len(name) > maxTimezone || name[0] < 'A' || name[0] > 'Z' {
		return problem
	}
	if name == "Local" {
		return "\"Local\" is another time on every machine; use a name of the IANA database, such as \"Europe/Berlin\", or \"UTC\"."
	}
	if _, err := time.LoadLocation(name); err != nil {
		return problem
	}
	return ""
}
