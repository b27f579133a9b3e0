package autoscale_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
)

// desk is a ledger with a clock that counts in seconds from when its server
// began to lead.
type desk struct {
	*autoscale.Ledger
	t *testing.T
}

func newDesk(t *testing.T, windows ...float64) *desk {
	t.Helper()
	d := &desk{autoscale.NewLedger(moment(0)), t}
	if len(windows) == 0 {
		windows = []float64{30}
	}
	follow := map[loads.Key]time.Duration{}
	for i, window := range windows {
		follow[key(i)] = time.Duration(window * float64(time.Second))
	}
	d.Follow(follow)
	return d
}

// key names the deployments of a test: echo, echo1, echo2 ...
func key(i int) loads.Key {
	if i == 0 {
		return loads.Key{Application: "app", Deployment: "echo"}
	}
	return loads.Key{Application: "app", Deployment: fmt.Sprintf("echo%d", i)}
}

// report returns the report of a proxy that covers so many seconds.
func report(proxy string, sequence uint64, covers float64, deployments ...loads.Deployment) loads.Report {
	return loads.Report{
		Schema: loads.Schema, Proxy: proxy, Incarnation: 1, Sequence: sequence, Ready: true,
		Covers: time.Duration(covers * float64(time.Second)), Next: time.Second, Deployments: deployments,
	}
}

// had is a load with a mean over the report, of which so many are there now.
func had(i int, mean float64, now int) loads.Deployment {
	k := key(i)
	most, least := math.Ceil(mean), math.Floor(mean)
	return loads.Deployment{Application: k.Application, Deployment: k.Deployment, Ongoing: now, Mean: mean, Max: most, Min: least}
}

func (d *desk) take(now float64, r loads.Report) {
	d.t.Helper()
	if err := d.Take(moment(now), r); err != nil {
		d.t.Fatalf("at %v: %v", now, err)
	}
}

func (d *desk) pieces(now, from, to float64) []piece {
	d.t.Helper()
	return pieces(d.series(now), from, to)
}

func (d *desk) series(now float64) *autoscale.Series {
	d.t.Helper()
	s := d.Series(moment(now), key(0))
	if s == nil {
		d.t.Fatalf("at %v the load is not known", now)
	}
	return s
}

func (d *desk) over(now, window float64, aggregation string) float64 {
	d.t.Helper()
	return d.series(now).Over(moment(now), time.Duration(window*float64(time.Second)), aggregation)
}

func (d *desk) first(now, want float64) {
	d.t.Helper()
	if got := d.series(now).First().Sub(moment(0)).Seconds(); got != want {
		d.t.Errorf("at %v the load is known from %v on, want %v", now, got, want)
	}
}

func (d *desk) present(now float64, want int) {
	d.t.Helper()
	ongoing, queued := d.Present(moment(now), key(0))
	if ongoing+queued != want {
		d.t.Errorf("at %v there are %d requests, want %d", now, ongoing+queued, want)
	}
	if s := d.Series(moment(now), key(0)); s != nil && s.Present() != float64(want) {
		d.t.Errorf("at %v the series ends with %v, want %d", now, s.Present(), want)
	}
}

func (d *desk) hold(now, window float64, want string) {
	d.t.Helper()
	got := d.Hold(moment(now), time.Duration(window*float64(time.Second)))
	if got != want {
		d.t.Errorf("at %v the hold is %q, want %q", now, got, want)
	}
}

// flat is a piece of a load that is known exactly.
func flat(at, lasts, value float64) piece { return piece{at, lasts, value, value, value} }

func TestReportsBecomeALoad(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 1.5, 3)))
	d.take(2, report("web-1", 2, 1, had(0, 2.25, 2)))
	equalPieces(t, d.pieces(3, 0, 3), piece{0, 1, 1.5, 2, 1}, piece{1, 1, 2.25, 3, 2}, flat(2, 1, 2))
	d.present(3, 2)
}

func TestLoadOfAllProxiesTogether(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(1.5, report("web-2", 1, 1, had(0, 4, 1)))
	equalPieces(t, d.pieces(3, 0, 3), flat(0, 0.5, 2), flat(0.5, 1, 6), flat(1.5, 1.5, 3))
	if got := d.over(3, 2, "max"); got != 6 {
		t.Errorf("max is %v, want 6", got)
	}
}

// TestNotNamedIsNone: a report is complete.
func TestNotNamedIsNone(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(2, report("web-1", 2, 1, had(1, 7, 7)))
	d.take(3, report("web-1", 3, 1, had(0, 4, 4)))
	equalPieces(t, d.pieces(4, 0, 4), flat(0, 1, 2), flat(1, 1, 0), flat(2, 2, 4))
	d.take(4, report("web-1", 4, 1))
	d.present(4, 0)
}

func TestLateReportsLeaveNoHoleAndNoOverlap(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(2.4, report("web-1", 2, 1, had(0, 4, 4)))
	equalPieces(t, d.pieces(2.4, 0, 2.4), flat(0, 1, 2), flat(1, 1.4, 4))
	// The next is in time again: 0.4 s of the second that it covers are known.
	d.take(3, report("web-1", 3, 1, loads.Deployment{Application: "app", Deployment: "echo", Mean: 7, Max: 12, Min: 1}))
	equalPieces(t, d.pieces(3, 1, 3), flat(1, 1.4, 4), piece{2.4, 0.6, (7 - 0.4*4) / 0.6, 12, 1})
	if got := d.series(3).Mean(moment(1), moment(3)); math.Abs(got-(4+7)/2.0) > 1e-9 {
		t.Errorf("the mean of both is %v, want 5.5", got)
	}
}

// TestLostAnswer: the proxy does not know that its report came, so the next
// one covers that time again.
func TestLostAnswer(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(2, report("web-1", 2, 1, had(0, 4, 4)))
	whole := loads.Deployment{Application: "app", Deployment: "echo", Mean: 5, Max: 6, Min: 2}
	d.take(3, report("web-1", 3, 2, whole))
	equalPieces(t, d.pieces(3, 0, 3), flat(0, 1, 2), flat(1, 1, 4), piece{2, 1, 6, 6, 2})
}

// TestLostAnswerAndLostReport: there is a hole in the sequence, and none in time.
func TestLostAnswerAndLostReport(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(2, report("web-1", 2, 1, had(0, 4, 4)))
	whole := loads.Deployment{Application: "app", Deployment: "echo", Mean: 6, Max: 8, Min: 2}
	d.take(4, report("web-1", 4, 3, whole))
	equalPieces(t, d.pieces(4, 0, 4), flat(0, 1, 2), flat(1, 1, 4), piece{2, 2, 7, 8, 2})
}

// TestLostAnswersForLongerThanTheWindow: what the reports of before said has
// been let go of.
func TestLostAnswersForLongerThanTheWindow(t *testing.T) {
	d := newDesk(t, 2)
	load := loads.Deployment{Application: "app", Deployment: "echo", Ongoing: 4, Mean: 4, Max: 9, Min: 0}
	for at := 1.0; at <= 40; at++ {
		load.Max = 8 + math.Mod(at, 2) // so that each is a step of its own
		d.take(at, report("web-1", uint64(at), at, load))
	}
	if got := d.over(40, 2, "mean"); math.Abs(got-4) > 1e-3 {
		t.Errorf("the mean is %v, want 4", got)
	}
}

func TestTheSameReportTwice(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(2, report("web-1", 2, 1, had(0, 4, 4)))
	d.take(2.5, report("web-1", 2, 1, had(0, 4, 4)))
	d.take(2.6, report("web-1", 1, 1, had(0, 2, 2)))
	equalPieces(t, d.pieces(3, 0, 3), flat(0, 1, 2), flat(1, 2, 4))
	got := d.Proxies(moment(3))
	if len(got) != 1 || got[0].Reports != 2 || got[0].Dropped != 2 || got[0].Age != time.Second {
		t.Errorf("proxies are %+v", got)
	}
	if n, _ := d.Refused(); n != 0 {
		t.Errorf("%d reports were refused", n)
	}
}

// TestAHoleIsFilledWithWhatWasThere: reports 2 and 3 were lost, and the proxy
// does not know.
func TestAHoleIsFilledWithWhatWasThere(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 3)))
	d.take(4, report("web-1", 4, 1, had(0, 5, 5)))
	equalPieces(t, d.pieces(5, 0, 5), flat(0, 1, 2), flat(1, 2, 3), flat(3, 2, 5))
}

func TestProxyStartsAgain(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 7, 1, had(0, 2, 3)))
	again := report("web-1", 1, 0.5, had(0, 1, 1))
	again.Incarnation = 2
	d.take(4, again)
	equalPieces(t, d.pieces(5, 0, 5), flat(0, 1, 2), flat(1, 2.5, 3), flat(3.5, 1.5, 1))
	d.take(4.5, report("web-1", 8, 1, had(0, 9, 9))) // of the old process, late
	d.present(5, 1)
}

// TestProxyIsGoneForLongAndStartsAgain: its requests ended with it, at the
// latest when it fell silent.
func TestProxyIsGoneForLongAndStartsAgain(t *testing.T) {
	d := newDesk(t, 60)
	d.take(1, report("web-1", 7, 1, had(0, 2, 3)))
	again := report("web-1", 1, 1, had(0, 4, 4))
	again.Incarnation = 2
	d.take(31, again)
	equalPieces(t, d.pieces(31, 0, 31), flat(0, 1, 2), flat(1, 10, 3), flat(11, 19, 0), flat(30, 1, 4))
}

// TestTwoProcessesAtATime: the first report of the new one covers a time of
// which the old one has told.
func TestTwoProcessesAtATime(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 7, 1, had(0, 2, 2)))
	again := report("web-1", 1, 1, loads.Deployment{Application: "app", Deployment: "echo", Mean: 5, Max: 9, Min: 0})
	again.Incarnation = 2
	d.take(1.5, again)
	equalPieces(t, d.pieces(1.5, 0, 1.5), flat(0, 1, 2), piece{1, 0.5, 5, 9, 0})
}

// TestClockThatWasSetBackBetweenTwoProcesses must not shut the proxy out.
func TestClockThatWasSetBackBetweenTwoProcesses(t *testing.T) {
	d := newDesk(t)
	wrong := report("web-1", 1, 1, had(0, 2, 2))
	wrong.Incarnation = math.MaxInt64
	d.take(1, wrong)
	d.take(5, report("web-1", 3, 1, had(0, 4, 4)))
	d.present(5, 2)
	d.take(12, report("web-1", 10, 1, had(0, 4, 4)))
	d.present(12, 4)
}

// TestTwoProxiesOfOneName: requests of both count, and neither is held to be a
// restart of the other for longer than it takes to know.
func TestTwoProxiesOfOneName(t *testing.T) {
	d := newDesk(t)
	earlier, later := uint64(0), uint64(0)
	second := func(at float64) {
		earlier++
		d.take(at, report("web-1", earlier, 1, had(0, 3, 3)))
		later++
		r := report("web-1", later, 1, had(0, 5, 5))
		r.Incarnation = 2
		d.take(at+0.5, r)
	}
	for at := 40.0; at < 42; at++ {
		second(at)
	}
	d.hold(41.6, 30, "an earlier process of proxy web-1 reports too: its report was late, or two proxies have this name")
	for at := 42.0; at < 100; at++ {
		second(at)
	}
	d.present(99.9, 8)
	if got := d.over(99.9, 30, "mean"); got != 8 {
		t.Errorf("the mean is %v, want 8", got)
	}
	d.hold(99.9, 30, "")
	got := d.Proxies(moment(99.9))
	if len(got) != 2 || got[0].Twin || !got[1].Twin || got[1].Proxy != "web-1 (begun 1970-01-01T00:00:00.000000001Z)" {
		t.Errorf("proxies are %+v", got)
	}

	// The later one ends; the other is still the same one.
	for at := 100.0; at < 500; at++ {
		earlier++
		d.take(at, report("web-1", earlier, 1, had(0, 3, 3)))
	}
	d.present(499.9, 3)
	d.hold(499.9, 30, "")
	if got := d.Proxies(moment(499.9)); len(got) != 1 || got[0].Silent {
		t.Errorf("proxies are %+v", got)
	}
}

// TestLateReportOfAProcessThatEnded is not taken, and makes no second proxy.
func TestLateReportOfAProcessThatEnded(t *testing.T) {
	d := newDesk(t)
	d.take(40, report("web-1", 7, 1, had(0, 2, 2)))
	for at := 41.0; at < 80; at++ {
		r := report("web-1", uint64(at)-40, 1, had(0, 5, 5))
		r.Incarnation = 2
		d.take(at, r)
		if at == 45 || at == 46 {
			d.take(at+0.5, report("web-1", uint64(at), 1, had(0, 2, 2)))
		}
	}
	d.present(79.5, 5)
	d.hold(79.5, 30, "")
	if got := d.Proxies(moment(79.5)); len(got) != 1 || got[0].Dropped != 2 {
		t.Errorf("proxies are %+v", got)
	}
}

func TestProxyLeaves(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 7, 1, had(0, 2, 3)))
	d.take(1, report("web-2", 7, 1, had(0, 1, 1)))
	bye := report("web-1", 8, 1, had(0, 3, 3))
	bye.Leaving = true
	d.take(2, bye)
	d.take(2, bye) // its answer was lost
	d.take(2.5, report("web-1", 7, 1, had(0, 2, 3)))
	equalPieces(t, d.pieces(3, 0, 3), flat(0, 1, 3), flat(1, 1, 4), flat(2, 1, 1))
	d.present(3, 1)
	if got := d.Proxies(moment(3)); len(got) != 1 || got[0].Proxy != "web-2" {
		t.Errorf("proxies are %+v", got)
	}
	d.take(30, report("web-2", 8, 29, had(0, 1, 1)))
	d.hold(30, 30, "")
	bye = report("web-2", 9, 1)
	bye.Leaving = true
	d.take(31, bye)
	if d.Series(moment(31), key(0)) != nil {
		t.Error("no proxy is left, and the load is known")
	}
	d.hold(31, 30, "no proxy that is ready has reported: the load is not known")
}

func TestProxyThatIsNotReady(t *testing.T) {
	d := newDesk(t)
	starting := report("web-1", 1, 1)
	starting.Ready = false
	d.take(40, starting)
	if d.Series(moment(40), key(0)) != nil {
		t.Error("a proxy that knows of no deployment was taken as evidence")
	}
	d.hold(40, 30, "no proxy that is ready has reported: the load is not known")
	d.take(41, report("web-2", 1, 1, had(0, 2, 2)))
	d.hold(41, 30, "")
	d.present(41, 2)
	d.take(42, report("web-1", 2, 2, had(0, 3, 3)))
	d.present(42, 5)

	// It loses its table: that is no evidence of idleness, nor a load.
	lost := report("web-1", 3, 1)
	lost.Ready = false
	d.take(43, lost)
	equalPieces(t, d.pieces(44, 40, 44), flat(40, 3, 5), flat(43, 1, 2))
}

func TestSilentProxy(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 7, 1, had(0, 2, 2)))
	for at := 1.0; at <= 400; at++ {
		d.take(at, report("web-2", uint64(at), 1, had(0, 1, 1)))
		switch at {
		case 10:
			d.present(at, 3)
			d.hold(at, 0, "")
		case 11:
			d.present(at, 1)
			d.hold(at, 0, "proxy web-1 has been silent for 10s: its load is not known")
			equalPieces(t, d.pieces(at+1, 1, at+1), flat(1, 10, 3), flat(11, 1, 1))
		case 300:
			d.hold(at, 30, "proxy web-1 has been silent for 4m59s: its load is not known")
			if got := d.Proxies(moment(at)); len(got) != 2 || !got[0].Silent || got[1].Silent {
				t.Errorf("proxies are %+v", got)
			}
		case 301:
			d.hold(at, 30, "")
			if got := d.Proxies(moment(at)); len(got) != 1 {
				t.Errorf("proxies are %+v", got)
			}
		}
	}
}

// TestProxyThatWasSilentTellsOfIt: a report covers all since the last one that
// came.
func TestProxyThatWasSilentTellsOfIt(t *testing.T) {
	d := newDesk(t, 60)
	d.take(1, report("web-1", 7, 1, had(0, 2, 2)))
	d.hold(20, 0, "proxy web-1 has been silent for 19s: its load is not known")
	d.take(31, report("web-1", 20, 30, had(0, 4, 5)))
	equalPieces(t, d.pieces(32, 0, 32), flat(0, 1, 2), flat(1, 30, 4), flat(31, 1, 5))
	d.hold(32, 0, "")
}

// TestForgottenProxyComesBack: nobody waited for it any more, but a window still
// reaches its load.
func TestForgottenProxyComesBack(t *testing.T) {
	d := newDesk(t, 3600)
	d.take(1, report("web-1", 7, 1, had(0, 2, 2)))
	for at := 1.0; at <= 400; at++ {
		d.take(at, report("web-2", uint64(at), 1))
	}
	equalPieces(t, d.pieces(400, 0, 400), flat(0, 11, 2), flat(11, 389, 0))
	d.take(401, report("web-1", 30, 400, had(0, 4, 5)))
	equalPieces(t, d.pieces(402, 0, 402), flat(0, 1, 2), flat(1, 400, 4), flat(401, 1, 5))
}

func TestManyAreSilent(t *testing.T) {
	d := newDesk(t)
	for i, name := range []string{"web-3", "web-1", "web-2"} {
		d.take(float64(i), report(name, 7, 0, had(0, 2, 2)))
	}
	d.hold(13, 0, "proxy web-1 has been silent for 12s, and 2 more are: their load is not known")
	if d.Series(moment(13), key(0)) != nil {
		t.Error("all proxies are silent, and the load is known")
	}
	ongoing, queued := d.Present(moment(13), key(0))
	if ongoing+queued != 0 {
		t.Errorf("all proxies are silent, and %d requests are there", ongoing+queued)
	}
	d.hold(400, 0, "no proxy that is ready has reported: the load is not known")
}

// TestSlowReporter is not silent before it has missed two reports.
func TestSlowReporter(t *testing.T) {
	d := newDesk(t)
	r := report("web-1", 1, 1, had(0, 2, 2))
	r.Next = 20 * time.Second
	d.take(1, r)
	d.present(40.9, 2)
	if d.Series(moment(41), key(0)) != nil {
		t.Error("it is silent for 40 s")
	}
}

// TestVerySlowReporter is waited for at least as long again as it may be quiet.
func TestVerySlowReporter(t *testing.T) {
	d := newDesk(t)
	r := report("web-1", 1, 1, had(0, 2, 2))
	r.Next = 10 * time.Minute
	d.take(0, r)
	d.present(1199, 2)
	d.hold(2399, 0, "proxy web-1 has been silent for 39m59s: its load is not known")
	d.hold(2400, 0, "no proxy that is ready has reported: the load is not known")
}

func TestYoungLedger(t *testing.T) {
	d := newDesk(t)
	d.hold(0, 30, "no proxy that is ready has reported: the load is not known")
	if d.Series(moment(0), key(0)) != nil {
		t.Error("nobody has reported, and the load is known")
	}
	for at := 1.0; at <= 30; at++ {
		d.take(at, report("web-1", uint64(at), 1))
		switch at {
		case 3:
			d.hold(at, 30, "this server leads for 3s and looks back 30s")
			d.hold(at, 0, "this server has listened for 3s: within 10s all proxies report")
		case 10:
			d.hold(at, 0, "")
			d.hold(at, 30, "this server leads for 10s and looks back 30s")
		case 30:
			d.hold(at, 30, "")
		}
	}
}

// TestYoungLedgerOfSlowReporters: who has not reported yet may do so as seldom
// as those who have.
func TestYoungLedgerOfSlowReporters(t *testing.T) {
	d := newDesk(t)
	slow := func(at float64, proxy string, sequence uint64) {
		r := report(proxy, sequence, 60, had(0, 2, 2))
		r.Next = time.Minute
		d.take(at, r)
	}
	slow(5, "web-1", 7)
	for at := 6.0; at < 125; at++ {
		switch {
		case at == 55:
			slow(at, "web-2", 9)
		case at == 65:
			slow(at, "web-1", 8)
		case at == 115:
			slow(at, "web-2", 10)
		case at > 30 && at < 120:
			d.hold(at, 30, fmt.Sprintf("this server has listened for %s: within 2m0s all proxies report", time.Duration(at)*time.Second))
		case at >= 120:
			d.hold(at, 30, "")
		}
	}
}

// TestMachineThatStoodStill: who was silent meanwhile may be about to report.
func TestMachineThatStoodStill(t *testing.T) {
	d := newDesk(t, 2)
	for at := 1.0; at < 20; at++ {
		d.take(at, report("web-1", uint64(at), 1, had(0, 2, 2)))
		d.take(at, report("web-2", uint64(at), 1, had(0, 5, 5)))
	}
	d.hold(19.5, 2, "")
	d.take(600, report("web-1", 20, 581, had(0, 2, 2)))
	d.hold(600.5, 2, "this server has listened for 0s: within 10s all proxies report")
	d.take(601, report("web-2", 20, 582, had(0, 5, 5)))
	for at := 602.0; at < 611; at++ {
		d.take(at, report("web-1", uint64(at), 1, had(0, 2, 2)))
		d.take(at, report("web-2", uint64(at), 1, had(0, 5, 5)))
	}
	d.hold(610.5, 2, "")
	d.present(610.5, 7)
}

func TestWhereTheLoadBegins(t *testing.T) {
	t.Run("with the latest proxy that was there before", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, report("web-1", 100, 7, had(0, 2, 2)))
		d.first(1, -6)
		d.take(2, report("web-2", 50, 4, had(0, 3, 3)))
		d.first(2, -2)
		equalPieces(t, d.pieces(2, -10, 2), flat(-2, 4, 5))
	})
	t.Run("with the server, if all proxies began later", func(t *testing.T) {
		d := newDesk(t)
		d.take(3, report("web-1", 1, 1, had(0, 2, 2)))
		d.first(3, 0)
		equalPieces(t, d.pieces(3, -10, 3), flat(0, 2, 0), flat(2, 1, 2))
	})
	t.Run("a proxy that starts does not cut it", func(t *testing.T) {
		d := newDesk(t)
		d.take(1, report("web-1", 100, 7, had(0, 2, 2)))
		d.take(5, report("web-2", 1, 1, had(0, 4, 4)))
		d.first(5, -6)
		if got := d.over(5, 11, "mean"); math.Abs(got-(22+4)/11.0) > 1e-3 {
			t.Errorf("the mean is %v", got)
		}
	})
	t.Run("nor one that was cut off from the server", func(t *testing.T) {
		d := newDesk(t, 60)
		for at := 1.0; at < 60; at++ {
			d.take(at, report("web-1", uint64(at), 1, had(0, 2, 2)))
		}
		d.take(60, report("web-2", 900, 61, had(0, 3, 3)))
		d.first(60, 0)
		equalPieces(t, d.pieces(60, 0, 60), flat(0, 60, 5))
	})
	t.Run("nor one that is heard of late and tells of little", func(t *testing.T) {
		d := newDesk(t)
		d.take(10, report("web-1", 900, 1, had(0, 3, 3)))
		d.first(10, 0)
	})
	t.Run("of all deployments, also those that a proxy does not name", func(t *testing.T) {
		d := newDesk(t)
		d.take(3, report("web-1", 900, 3, had(0, 3, 3)))
		d.first(3, 0)
		d.take(4, report("web-2", 900, 1))
		d.first(4, 3)
	})
	t.Run("with the window", func(t *testing.T) {
		d := newDesk(t, 10)
		for at := 1.0; at <= 50; at++ {
			d.take(at, report("web-1", uint64(at), 1, had(0, at, int(at))))
		}
		d.first(50, 40)
	})
	t.Run("of a deployment that is followed later, with the reports before", func(t *testing.T) {
		d := newDesk(t)
		d.take(20, report("web-1", 1, 20, had(1, 2, 2)))
		d.take(21, report("web-2", 1, 20))
		d.Follow(map[loads.Key]time.Duration{key(1): 30 * time.Second})
		if d.Series(moment(21), key(0)) != nil {
			t.Error("a deployment that is not followed has a load")
		}
		s := d.Series(moment(22), key(1))
		d.take(21.5, report("web-1", 2, 21, loads.Deployment{Application: "app", Deployment: "echo1", Mean: 2, Max: 9}))
		if mean := d.Series(moment(22), key(1)).Mean(moment(20), moment(21.5)); mean != 2 {
			t.Errorf("what was before was taken for none: the mean is %v, want 2", mean)
		}
		if !s.First().Equal(moment(21)) || s.Present() != 2 || s.Over(moment(22), 30*time.Second, "mean") != 2 {
			t.Errorf("first is %v, present %v", s.First(), s.Present())
		}
	})
	t.Run("of a window that grows, with the shorter one", func(t *testing.T) {
		d := newDesk(t, 5)
		for at := 1.0; at <= 50; at++ {
			d.take(at, report("web-1", uint64(at), 1, had(0, at, int(at))))
		}
		d.Follow(map[loads.Key]time.Duration{key(0): 20 * time.Second})
		d.first(50, 45)
	})
}

func TestWhatIsNotFollowedIsForgotten(t *testing.T) {
	d := newDesk(t)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	d.Follow(nil)
	d.Follow(map[loads.Key]time.Duration{key(0): time.Minute})
	d.first(2, 1)
	d.take(2, report("web-1", 2, 1, had(0, 5, 5)))
	equalPieces(t, d.pieces(3, 0, 3), flat(1, 2, 5))
}

// TestSeriesDoesNotChange though the ledger goes on, and drops what is old.
func TestSeriesDoesNotChange(t *testing.T) {
	d := newDesk(t, 2)
	d.take(1, report("web-1", 1, 1, had(0, 2, 2)))
	kept := map[float64]*autoscale.Series{}
	want := map[float64][]piece{}
	for at := 2.0; at < 60; at++ {
		d.take(at, report("web-1", uint64(at), 1, had(0, at, int(at))))
		d.take(at+0.001, report("web-2", uint64(at), 1, had(0, 1, int(at))))
		kept[at] = d.series(at + 0.5)
		want[at] = pieces(kept[at], at-2, at+0.5)
		if again := d.series(at + 0.6); again != kept[at] {
			t.Error("nothing has changed, and the series is another one")
		}
	}
	for at, s := range kept {
		equalPieces(t, pieces(s, at-2, at+0.5), want[at]...)
	}
}

// TestNowGoesBack: what is asked of before the last now is answered for that.
func TestNowGoesBack(t *testing.T) {
	d := newDesk(t)
	d.take(10, report("web-1", 1, 1, had(0, 2, 2)))
	d.take(11, report("web-1", 2, 1, had(0, 4, 4)))
	d.take(3, report("web-1", 3, 1, had(0, 6, 7)))
	d.present(3, 7)
	if got := d.over(3, 30, "max"); got != 7 {
		t.Errorf("the max is %v, want 7", got)
	}
	equalPieces(t, d.pieces(12, 9, 12), flat(9, 1, 2), flat(10, 1, 4), flat(11, 1, 7))
	d.hold(-1e6, 0, "")
}

func TestGarbageChangesNothing(t *testing.T) {
	d := newDesk(t)
	d.take(11, report("web-1", 1, 1, had(0, 2, 2)))
	want := d.pieces(20, 0, 20)
	bad := report("web-1", 2, 1, had(0, 5, 5), loads.Deployment{Application: "app", Deployment: "echo1", Mean: math.NaN()})
	err := d.Take(moment(12), bad)
	if err == nil || !strings.Contains(err.Error(), `proxy "web-1": deployments[1]: app/echo1: mean is NaN`) {
		t.Errorf("got %v", err)
	}
	if n, last := d.Refused(); n != 1 || last != err.Error() {
		t.Errorf("refused %d, %s", n, last)
	}
	equalPieces(t, d.pieces(20, 0, 20), want...)
	d.present(20, 2)
	d.hold(21, 0, "proxy web-1 has been silent for 10s: its load is not known")
}

// TestARefusedReportIsNoIdleness: its proxy has a load that cannot be read.
func TestARefusedReportIsNoIdleness(t *testing.T) {
	d := newDesk(t)
	for at := 1.0; at <= 400; at++ {
		d.take(at, report("web-1", uint64(at), 1))
		newer := report("web-2", uint64(at), 1, had(0, 5, 5))
		newer.Schema = 2
		if at <= 390 && d.Take(moment(at), newer) == nil {
			t.Fatal("a report of another schema was taken")
		}
		if at == 399 {
			d.hold(at, 30, "a load report was refused: schema is 2, this server reads 1: run the same release of serve-nomad as server and as proxy")
		}
	}
	d.hold(400, 30, "")
}

func TestMoreProxiesThanAreRemembered(t *testing.T) {
	d := newDesk(t)
	bye := report("", 1, 0)
	bye.Leaving = true
	for i := range 10_000 {
		bye.Proxy = fmt.Sprintf("web-%d", i)
		d.take(0, bye)
	}
	if err := d.Take(moment(1), report("one-more", 1, 1)); err == nil {
		t.Error("one more was taken")
	}
	d.take(301, report("one-more", 1, 1))
	if got := d.Proxies(moment(301)); len(got) != 1 {
		t.Errorf("proxies are %v", got)
	}
}
