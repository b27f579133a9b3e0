package autoscale

import (
	"fmt"
	"math"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// How sure a trend must be before it counts. A slope of trendSure times its
// standard error is by chance about once in a thousand windows; with fewer than
// trendLeast of the window seen there is no trend yet; and a forecast goes no
// further than trendMost times the largest load seen in the window.
const (
	trendSure  = 3.0
	trendLeast = 0.25
	trendMost  = 2.0
)

// forecast returns the floor that the load's trend asks for: what the load will
// want when a replica that is ordered now begins to serve. 0: no floor.
func (d *decider) forecast() (floor int, why func() string) {
	f := d.policy.block.Forecast
	if f == nil || d.in.Load == nil || d.policy.kind == appspec.PolicyExternal {
		return 0, nil
	}
	horizon := max(f.Horizon.Std(), d.in.StartTime)
	if horizon == 0 {
		horizon = defaultHorizon
	}
	t := trendOf(d.in.Load, d.in.Now, f.Window.Std())
	if !t.rises {
		return 0, nil
	}
	load := min(t.level+t.slope*horizon.Seconds(), trendMost*t.largest)
	each := d.policy.block.TargetOngoingRequests
	if d.policy.kind == appspec.PolicyKPA {
		each = max(0.01, each*d.policy.kpa.TargetUtilization)
	}
	floor = roundUp(d.snapped(load / each))
	return floor, func() string {
		return fmt.Sprintf("forecast: the load grows by %s a second, to %s in %s, which wants %d", number(t.slope), number(load), horizon, floor)
	}
}

// trend is a straight line through a load.
type trend struct {
	rises   bool    // and that is not by chance
	slope   float64 // requests per second
	level   float64 // of the line, now
	largest float64 // mean of a step in the window
}

// trendOf fits a line to the last window of a load by least squares, each step
// with the weight of its length.
func trendOf(s *Series, now time.Time, window time.Duration) trend {
	from := now.Add(-window)
	var out trend
	var weight, sumX, sumY, sumXX, sumXY, sumYY float64
	n := 0
	s.Each(from, now, func(step Step, lasts time.Duration) {
		// x is 0 now and negative before, at the middle of the step.
		x, y, w := step.At.Add(lasts/2).Sub(now).Seconds(), step.Mean, lasts.Seconds()
		weight, sumX, sumY = weight+w, sumX+w*x, sumY+w*y
		sumXX, sumXY, sumYY = sumXX+w*x*x, sumXY+w*x*y, sumYY+w*y*y
		out.largest = max(out.largest, y)
		n++
	})
	if n < 3 || weight < trendLeast*window.Seconds() {
		return out
	}
	varX, varY := sumXX-sumX*sumX/weight, sumYY-sumY*sumY/weight
	covar := sumXY - sumX*sumY/weight
	if varX <= 0 || covar <= 0 {
		return out
	}
	out.slope = covar / varX
	out.level = sumY/weight - out.slope*sumX/weight
	residual := max(0, varY-out.slope*covar)
	failure := math.Sqrt(residual / varX / float64(n-2))
	out.rises = out.slope >= trendSure*failure && out.slope*window.Seconds() > 1e-6*max(1, out.largest)
	return out
}
