package autoscale

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// oracleCase is a load, and what Ray Serve's own autoscaler made of it; see
// testdata/ray_oracle.py.
type oracleCase struct {
	Block struct {
		Min         int     `json:"min_replicas"`
		Max         int     `json:"max_replicas"`
		Initial     *int    `json:"initial_replicas"`
		Target      float64 `json:"target_ongoing_requests"`
		Up          int     `json:"upscale_delay"`
		Down        int     `json:"downscale_delay"`
		Zero        int     `json:"downscale_to_zero_delay"`
		UpFactor    float64 `json:"upscaling_factor"`
		DownFactor  float64 `json:"downscaling_factor"`
		LookBack    int     `json:"look_back_period"`
		Aggregation string  `json:"aggregation"`
	} `json:"block"`
	Load    [][2]float64 `json:"load"`    // seconds, requests
	Changes [][2]float64 `json:"changes"` // seconds, target
}

func (c *oracleCase) policy(t *testing.T) *Policy {
	t.Helper()
	b, seconds := c.Block, func(n int) appspec.Duration { return appspec.Duration(time.Duration(n) * time.Second) }
	return compile(t, &appspec.Autoscaling{
		Policy: "ray", MinReplicas: b.Min, MaxReplicas: b.Max, InitialReplicas: b.Initial, TargetOngoingRequests: b.Target,
		UpscaleDelay: seconds(b.Up), DownscaleDelay: seconds(b.Down), DownscaleToZeroDelay: seconds(b.Zero),
		UpscalingFactor: b.UpFactor, DownscalingFactor: b.DownFactor, LookBackPeriod: seconds(b.LookBack), Aggregation: b.Aggregation,
	})
}

// TestRayItself compares replays with Ray Serve's own decisions, change for
// change.
func TestRayItself(t *testing.T) {
	file, err := os.Open("testdata/ray.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var head struct {
		Ray   string
		Until int
	}
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || head.Until == 0 {
		t.Fatal("there is no head")
	}
	cases, changes := 0, 0
	for lines.Scan() {
		var c oracleCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, l := range c.Load {
			fmt.Fprintf(&text, "{\"at\": %g, \"requests\": %g}\n", l[0], l[1])
		}
		trace, err := ReadTrace(strings.NewReader(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		result, err := Replay(c.policy(t), trace, ReplayOptions{Tick: 100 * time.Millisecond, Until: time.Duration(head.Until) * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var got [][2]float64
		for _, change := range result.Changes[1:] {
			got = append(got, [2]float64{change.At.Seconds(), float64(change.Target)})
		}
		// A tick apart is where a mean is a whole number of replicas and Ray's
		// rounding makes it a little more, or less.
		near := func(a, b [2]float64) bool { return a[1] == b[1] && math.Abs(a[0]-b[0]) < 0.1001 }
		if !slices.EqualFunc(got, c.Changes, near) {
			t.Errorf("case %d, %+v\nload %v\nRay %s: %v\nhere: %v", cases, c.Block, c.Load, head.Ray, c.Changes, got)
		}
		cases++
		changes += len(c.Changes)
	}
	if lines.Err() != nil || cases < 200 || changes < 500 {
		t.Errorf("%d cases with %d changes: %v", cases, changes, lines.Err())
	}
	t.Logf("%d cases, %d changes", cases, changes)
}

// TestKnativeItself compares with Knative Serving's own decisions on means over
// its two windows; see testdata/knative_oracle.go.txt.
func TestKnativeItself(t *testing.T) {
	file, err := os.Open("testdata/knative.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	cases, moves := 0, 0
	for lines.Scan() {
		var c struct {
			Block struct {
				Target, UpRate, DownRate, Threshold float64
				Stable, Delay                       int // seconds
				Activation                          int
			}
			Steps [][4]float64 // running, stable, panic, wanted; two seconds apart
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		p := kpaPolicy(t, c.Block.Target, func(k *appspec.KPA) {
			k.MaxScaleUpRate, k.MaxScaleDownRate, k.ActivationScale = c.Block.UpRate, c.Block.DownRate, c.Block.Activation
			k.PanicThresholdPercentage = 100 * c.Block.Threshold
			k.StableWindow = appspec.Duration(time.Duration(c.Block.Stable) * time.Second)
			k.ScaleDownDelay = appspec.Duration(time.Duration(c.Block.Delay) * time.Second)
		})
		state := State{}
		for i, step := range c.Steps {
			now := epoch().Add(time.Duration(i) * 2 * time.Second)
			d := &decider{policy: p, in: Input{Now: now, Running: int(step[0])}, state: state}
			if got := d.smoothed(d.kpaWant(step[1], step[2])); got != int(step[3]) {
				t.Errorf("case %d, %+v, step %d %v: %d", cases, c.Block, i, step, got)
				break
			}
			state = d.state
			if step[3] != step[0] {
				moves++
			}
		}
		cases++
	}
	if lines.Err() != nil || cases < 100 || moves < 1000 {
		t.Errorf("%d cases with %d moves: %v", cases, moves, lines.Err())
	}
}
