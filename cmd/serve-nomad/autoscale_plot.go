package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/go-analyze/charts/chartdraw/drawing"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

// The size of the drawing and of its parts, in pixels.
const (
	plotWidth   = 960
	upperHeight = 330 // with the title
	lowerHeight = 300
	plotMargin  = 20
	legendLine  = 28
)

// The inks, by what they draw. Blue, vermilion and green are told apart by eyes
// that see few colours, and stand out on both light and dark ground.
func inkText() drawing.Color  { return drawing.Color{R: 51, G: 51, B: 51, A: 255} }
func inkGrid() drawing.Color  { return drawing.Color{R: 225, G: 225, B: 225, A: 255} }
func inkBlue() drawing.Color  { return drawing.Color{R: 30, G: 125, B: 200, A: 255} }
func inkRed() drawing.Color   { return drawing.Color{R: 217, G: 98, B: 20, A: 255} }
func inkGreen() drawing.Color { return drawing.Color{R: 0, G: 158, B: 115, A: 255} }

// darkGround turns paper, text and grid for whoever looks at things in the dark.
const darkGround = `@media (prefers-color-scheme: dark) {
[style*="fill:white"] { fill: #16191d !important }
text[style*="fill:rgb(51,51,51)"] { fill: #dcdcdc !important }
[style*="stroke:rgb(51,51,51)"] { stroke: #9a9a9a !important }
[style*="stroke:rgb(225,225,225)"] { stroke: #33383e !important }
}`

// plotLine is a value over time, as steps.
type plotLine struct {
	name   string
	points []autoscale.Point
	ink    drawing.Color
	dash   []float64
}

// panel is one of the drawings, which share the axis of time.
type panel struct {
	title  string
	what   string // the vertical axis
	whole  bool   // whole numbers only
	height int
	lines  []plotLine
}

// writeSVG draws the runs.
func (c *replayCommand) writeSVG(w io.Writer, runs []*replayRun, trace *autoscale.Trace) error {
	return drawRun(w, c.how.until, loadPanel(c.plotTitle(runs), loadLines(runs, trace)), replicaPanel(replicaLines(runs)))
}

func loadPanel(title string, lines []plotLine) panel {
	return panel{title: title, what: "Requests", height: upperHeight, lines: lines}
}

func replicaPanel(lines []plotLine) panel {
	return panel{what: "Replicas", whole: true, height: lowerHeight, lines: lines}
}

func nodePanel(lines []plotLine) panel {
	return panel{what: "Nodes", whole: true, height: lowerHeight, lines: lines}
}

// drawRun draws panels one below the other: scales that have nothing to do with
// each other share no axis but that of time.
func drawRun(w io.Writer, until time.Duration, panels ...panel) error {
	height, labels := 0, 0
	for _, p := range panels {
		height += p.height
		labels = max(labels, p.labelWidth())
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif">`+
		"\n<style>%s</style>\n", plotWidth, height, darkGround)
	y := 0
	for _, p := range panels {
		drawing, err := p.draw(max(until, time.Millisecond), labels)
		if err != nil {
			return fmt.Errorf("draw the run: %w", err)
		}
		place := fmt.Sprintf(`<svg y="%d" width="%d" height="%d" `, y, plotWidth, p.height)
		out.WriteString(strings.Replace(drawing, "<svg ", place, 1) + "\n")
		y += p.height
	}
	out.WriteString("</svg>\n")
	_, err := w.Write(out.Bytes())
	return err
}

func (c *replayCommand) plotTitle(runs []*replayRun) string {
	title := "Deployment " + c.deployment + ": " + runs[0].name
	if len(runs) > 1 {
		title += " and " + runs[1].name
	}
	return clippedTitle(title)
}

func clippedTitle(title string) string {
	const most = 90
	if letters := []rune(printable(title)); len(letters) > most {
		return string(letters[:most]) + "..."
	}
	return printable(title)
}

// loadLines has one load, unless two are simulated: then the replicas that
// there are make a difference to it.
func loadLines(runs []*replayRun, trace *autoscale.Trace) []plotLine {
	if len(runs) == 1 || !trace.Simulated() {
		return []plotLine{{name: "load: queued and ongoing", points: runs[0].result.Load, ink: inkBlue()}}
	}
	return []plotLine{
		{name: "load with " + runs[0].name, points: runs[0].result.Load, ink: inkRed()},
		{name: "load with " + runs[1].name, points: runs[1].result.Load, ink: inkBlue(), dash: dashes()},
	}
}

func replicaLines(runs []*replayRun) []plotLine {
	first := targetLine(runs[0].result)
	if len(runs) > 1 {
		return []plotLine{
			{name: "target of " + runs[0].name, points: first, ink: inkRed()},
			{name: "target of " + runs[1].name, points: targetLine(runs[1].result), ink: inkBlue(), dash: dashes()},
		}
	}
	return runLines(runs[0].result.Running, first)
}

func runLines(running, target []autoscale.Point) []plotLine {
	return []plotLine{
		{name: "running", points: running, ink: inkGreen()},
		{name: "target", points: target, ink: inkRed(), dash: dashes()},
	}
}

func dashes() []float64 { return []float64{6, 3} }

// targetLine is the target over time.
func targetLine(r *autoscale.Result) []autoscale.Point {
	points := make([]autoscale.Point, len(r.Changes))
	for i, c := range r.Changes {
		points[i] = autoscale.Point{At: c.At, Value: float64(c.Target)}
	}
	return points
}

func (p panel) most() float64 {
	most := 0.0
	for _, line := range p.lines {
		for _, point := range line.points {
			most = max(most, point.Value)
		}
	}
	return most
}

func (p panel) ticks() []chartdraw.Tick {
	const about, headroom = 6, 1.04
	return roundTicks(p.most()*headroom, about, p.whole)
}

// labelWidth is how wide the labels of the vertical axis are.
func (p panel) labelWidth() int {
	r := chartdraw.SVG(plotWidth, p.height)
	r.SetFont(chartdraw.GetDefaultFont())
	r.SetFontSize(chartdraw.DefaultAxisFontSize)
	width := 0
	for _, tick := range p.ticks() {
		width = max(width, r.MeasureText(tick.Label).Width())
	}
	return width
}

// draw draws a panel. labels is the room for the labels of the vertical axis, so
// that the panels begin at the same place.
func (p panel) draw(until time.Duration, labels int) (string, error) {
	const nameRoom, titleRoom, legendRoom = 10, 62, 34
	unit, name := timeUnit(until)
	text := chartdraw.Style{FontStyle: chartdraw.FontStyle{FontColor: inkText()}}
	axis := text
	axis.StrokeColor, axis.StrokeWidth = inkText(), 1
	grid := chartdraw.Style{StrokeColor: inkGrid(), StrokeWidth: 1}
	end := until.Seconds() / unit.Seconds()
	chart := chartdraw.Chart{
		Title: p.title, Width: plotWidth, Height: p.height,
		TitleStyle: chartdraw.Style{FontStyle: chartdraw.FontStyle{FontColor: inkText(), FontSize: 13}},
		Background: chartdraw.Style{FillColor: drawing.ColorWhite, Padding: chartdraw.Box{
			Top: legendRoom, Left: plotMargin + nameRoom + labels - p.labelWidth(), Right: plotMargin, Bottom: plotMargin / 2, IsSet: true,
		}},
		XAxis: chartdraw.XAxis{Name: name, NameStyle: text, Style: axis, GridMajorStyle: grid, GridMinorStyle: grid, Ticks: timeTicks(end)},
		YAxis: chartdraw.YAxis{Style: chartdraw.Hidden(), Range: &chartdraw.ContinuousRange{Max: 1}},
		YAxisSecondary: chartdraw.YAxis{
			Style: axis, GridMajorStyle: grid, GridMinorStyle: grid, Ticks: p.ticks(),
		},
	}
	if p.title != "" {
		chart.Background.Padding.Top = titleRoom
	}
	for _, line := range p.lines {
		x, y := steps(line.points, until, unit)
		chart.Series = append(chart.Series, chartdraw.ContinuousSeries{
			Name: line.name, XValues: x, YValues: y, YAxis: chartdraw.YAxisSecondary,
			Style: chartdraw.Style{StrokeColor: line.ink, StrokeWidth: 2, StrokeDashArray: line.dash},
		})
	}
	chart.Elements = []chartdraw.Renderable{p.legend, p.name}
	var out bytes.Buffer
	err := chart.Render(chartdraw.SVG, &out)
	return out.String(), err
}

// legend names the lines above the panel.
func (p panel) legend(r chartdraw.Renderer, canvas chartdraw.Box, defaults chartdraw.Style) {
	const gap, above = 8, 10
	x, y := canvas.Left, canvas.Top-above
	for _, line := range p.lines {
		r.SetStrokeColor(line.ink)
		r.SetStrokeWidth(2)
		r.SetStrokeDashArray(line.dash)
		r.MoveTo(x, y-gap/2)
		r.LineTo(x+legendLine, y-gap/2)
		r.Stroke()
		x += legendLine + gap
		r.SetFont(defaults.GetFont())
		r.SetFontColor(inkText())
		r.SetFontSize(chartdraw.DefaultAxisFontSize)
		r.Text(line.name, x, y)
		x += r.MeasureText(line.name).Width() + 3*gap
	}
}

// name writes what the vertical axis shows, upwards at the left edge.
func (p panel) name(r chartdraw.Renderer, canvas chartdraw.Box, defaults chartdraw.Style) {
	r.SetFont(defaults.GetFont())
	r.SetFontColor(inkText())
	r.SetFontSize(chartdraw.DefaultAxisFontSize)
	length := r.MeasureText(p.what).Width()
	r.SetTextRotation(-math.Pi / 2)
	r.Text(p.what, plotMargin, (canvas.Top+canvas.Bottom+length)/2)
	r.ClearTextRotation()
}

// steps turns points into the corners of a line.
func steps(points []autoscale.Point, until, unit time.Duration) (x, y []float64) {
	for i, p := range thin(points, until) {
		at := p.At.Seconds() / unit.Seconds()
		if i > 0 {
			x, y = append(x, at), append(y, y[len(y)-1])
		}
		x, y = append(x, at), append(y, p.Value)
	}
	return append(x, until.Seconds()/unit.Seconds()), append(y, y[len(y)-1])
}

// thin leaves of very many points the first, the least, the largest and the
// last of each pixel, which look the same.
func thin(points []autoscale.Point, until time.Duration) []autoscale.Point {
	if len(points) <= 4*plotWidth {
		return points
	}
	pixel := func(p autoscale.Point) time.Duration { return p.At / (until/plotWidth + 1) }
	var kept []autoscale.Point
	for len(points) > 0 {
		least, most, count := 0, 0, 1
		for ; count < len(points) && pixel(points[count]) == pixel(points[0]); count++ {
			if points[count].Value < points[least].Value {
				least = count
			}
			if points[count].Value > points[most].Value {
				most = count
			}
		}
		chosen := []int{0, least, most, count - 1}
		slices.Sort(chosen)
		for _, i := range slices.Compact(chosen) {
			kept = append(kept, points[i])
		}
		points = points[count:]
	}
	return kept
}

// timeUnit is what to count a run of this length in.
func timeUnit(until time.Duration) (unit time.Duration, name string) {
	const day, some = 24 * time.Hour, 5
	switch {
	case until <= some*time.Minute:
		return time.Second, "Time (seconds)"
	case until <= some*time.Hour:
		return time.Minute, "Time (minutes)"
	case until <= some*day:
		return time.Hour, "Time (hours)"
	default:
		return day, "Time (days)"
	}
}

// timeTicks end where the run ends.
func timeTicks(end float64) []chartdraw.Tick {
	const about = 12
	ticks := roundTicks(end, about, false)
	last := len(ticks) - 1
	if ticks[last].Value > end {
		ticks[last] = chartdraw.Tick{Value: end}
	}
	return ticks
}

// roundTicks are round numbers from 0 to most or a little more, about so many.
func roundTicks(most float64, about int, whole bool) []chartdraw.Tick {
	if most <= 0 {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most/float64(about))))
	for _, times := range []float64{2, 2.5, 2} { // 1, 2, 5, 10
		if most/step > float64(about) {
			step *= times
		}
	}
	if whole {
		step = max(1, step)
	}
	count := int(math.Ceil(most/step - 1e-9))
	ticks := make([]chartdraw.Tick, count+1)
	for i := range ticks {
		value := float64(i) * step
		ticks[i] = chartdraw.Tick{Value: value, Label: strconv.FormatFloat(value, 'g', 6, 64)}
	}
	return ticks
}
