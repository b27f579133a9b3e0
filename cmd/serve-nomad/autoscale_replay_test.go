package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

// replaySpec is a spec with a deployment "ranker" and this autoscaling block.
func replaySpec(block string) string {
	return `application "search" {
  route_prefix = "/search"
  ingress      = deployment.ranker
  deployment "ranker" {
    max_ongoing_requests = 5
    max_queued_requests  = 200
    autoscaling {
` + block + `
    }
    resources {
      cpu    = 0.5
      memory = "64MiB"
    }
    task {
      driver = "raw_exec"
    }
  }
}
`
}

// inProcess runs a command line with these files in an empty folder.
func inProcess(t *testing.T, files map[string]string, args ...string) (code int, out, errs string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	b := &base{
		ctx: t.Context(), stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr,
		getenv: func(string) string { return "" }, environ: func() []string { return nil },
	}
	return run(b, args), stdout.String(), stderr.String()
}

func replayLines(t *testing.T, block, load string, more ...string) []changeJSON {
	t.Helper()
	args := append([]string{"autoscale", "replay", "-spec", "app.hcl", "-deployment", "ranker", "-load", "load.jsonl", "-format", "jsonl"}, more...)
	code, out, errs := inProcess(t, map[string]string{"app.hcl": replaySpec(block), "load.jsonl": load}, args...)
	if code != exitOK || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var lines []changeJSON
	for text := range strings.SplitSeq(strings.TrimSuffix(out, "\n"), "\n") {
		var line changeJSON
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&line); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !regexp.MustCompile(`^\{"at":\d+\.\d+,"running":\d+,"target":\d+,"desired":\d+\.\d+,"reason":".+"\}$`).MatchString(text) {
			t.Errorf("%s: the keys and numbers are not as they should be", text)
		}
		lines = append(lines, line)
	}
	return lines
}

// Ray's own cases, from its unit tests, through the command line.
func TestReplayOfRaysCases(t *testing.T) {
	const now = "look_back_period = \"0s\"\nmax_replicas = 100\nmin_replicas = 0\n"
	at := func(replicas int, each string, more ...string) string {
		return now + fmt.Sprintf("initial_replicas = %d\ntarget_ongoing_requests = %s\n", replicas, each) + strings.Join(more, "\n")
	}
	const noDelay, slowUp, slowDown = "upscale_delay = \"0s\"\ndownscale_delay = \"0s\"",
		"upscale_delay = \"30s\"\ndownscale_delay = \"0s\"", "upscale_delay = \"0s\"\ndownscale_delay = \"30s\""
	for _, test := range []struct {
		name, block, load string
		until             string
		want              string
	}{
		{"as it should be", at(4, "5", noDelay), `{"at": 0, "requests": 20, "running": 4}`, "0s", "0.0:4"},
		{"five times the load", at(4, "5", noDelay), `{"at": 0, "requests": 100, "running": 4}`, "0s", "0.0:4 0.0:20"},
		{"half of the load", at(4, "5", noDelay), `{"at": 0, "requests": 10, "running": 4}`, "0s", "0.0:4 0.0:2"},
		{"half of the way up", at(10, "1", noDelay, "upscaling_factor = 0.5"), `{"at": 0, "requests": 20, "running": 10}`, "0s", "0.0:10 0.0:15"},
		{"half of the way down", at(20, "1", noDelay, "downscaling_factor = 0.5"), `{"at": 0, "requests": 5, "running": 20}`, "0s", "0.0:20 0.0:13"},
		{"never stuck", at(2, "1", noDelay, "downscaling_factor = 0.5"), `{"at": 0, "requests": 0.6, "running": 2}`, "0s", "0.0:2 0.0:1"},
		{"up waits", at(1, "50", slowUp), `{"at": 0, "requests": 100, "running": 1}`, "29.9s", "0.0:1"},
		{"up does not wait for down", at(1, "50", slowDown), `{"at": 0, "requests": 100, "running": 1}`, "0s", "0.0:1 0.0:2"},
		{"down waits", at(2, "50", slowDown), `{"at": 0, "requests": 40, "running": 2}`, "29.9s", "0.0:2"},
		{"down does not wait for up", at(2, "50", slowUp), `{"at": 0, "requests": 40, "running": 2}`, "0s", "0.0:2 0.0:1"},
		{"300 ticks up", at(1, "1", slowUp), `{"at": 0, "requests": 2, "running": 1}`, "1h", "0.0:1 30.0:2"},
		{"6000 ticks down", now + "initial_replicas = 2", `{"at": 0, "requests": 0, "running": 2}`, "600s", "0.0:2 600.0:1"},
		{"mean of a window", "look_back_period = \"1s\"\nmax_replicas = 100\ntarget_ongoing_requests = 1\nupscale_delay = \"0s\"\n" +
			"downscale_delay = \"1h\"\ninitial_replicas = 6", // of {0: 5, 1: 10, 2: 15} over [0.5, 1.5]: 7.5
			"{\"at\": 0, \"requests\": 5}\n{\"at\": 1, \"requests\": 10}\n{\"at\": 2, \"requests\": 15}", "1.5s", "0.0:6 1.5:8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tick := "100ms"
			if test.name == "mean of a window" {
				tick = "1500ms"
			}
			var got []string
			for _, line := range replayLines(t, test.block, test.load, "-until", test.until, "-tick", tick) {
				got = append(got, fmt.Sprintf("%s:%d", line.At, line.Target))
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %q, want %q", strings.Join(got, " "), test.want)
			}
		})
	}
}

// The drawings stay as they are: look at one before you commit it.
func TestReplayDrawings(t *testing.T) {
	cautious := replaySpec("max_replicas = 10\ntarget_ongoing_requests = 1\nlook_back_period = \"0s\"")
	bold := replaySpec("max_replicas = 10\ntarget_ongoing_requests = 1\nupscale_delay = \"0s\"\ndownscale_delay = \"60s\"")
	load := "{\"at\": 60, \"requests\": 4.5}\n{\"at\": 600, \"requests\": 12}\n{\"at\": 900, \"requests\": 3}\n"
	rates := "{\"at\": 0, \"rate\": 1, \"seconds_per_request\": 0.5}\n{\"at\": 600, \"rate\": 20, \"seconds_per_request\": 0.5}\n{\"at\": 900, \"rate\": 1, \"seconds_per_request\": 0.5}\n"
	folder, err := filepath.Abs("testdata/replay")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, load string
		args       []string
	}{
		{"one", load, []string{"-start-delay", "45s"}},
		{"two", load, []string{"-compare", "<bold>.hcl"}},
		{"simulated", rates, []string{"-compare", "<bold>.hcl", "-start-delay", "20s", "-until", "20m"}},
		{"nothing", `{"at": 0, "requests": 0}`, []string{"-until", "0s"}},
		{"long", load, []string{"-until", "200h", "-tick", "1m"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"autoscale", "replay", "-spec", "app.hcl", "-deployment", "ranker", "-load", "load.jsonl", "-format", "svg"}, test.args...)
			files := map[string]string{"app.hcl": cautious, "<bold>.hcl": bold, "load.jsonl": test.load}
			code, out, errs := inProcess(t, files, args...)
			if code != exitOK || errs != "" {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			checkXML(t, out)
			if test.name == "simulated" { // too many lines to keep
				if _, again, _ := inProcess(t, files, args...); again != out {
					t.Error("the same run gives another drawing")
				}
				return
			}
			compareFile(t, filepath.Join(folder, test.name+".svg"), out)
		})
	}
}

// checkXML holds that a drawing is XML and says what it shows.
func checkXML(t *testing.T, drawing string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(drawing))
	var words []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			words = append(words, string(text))
		}
	}
	all := strings.Join(words, "\n")
	for _, want := range []string{"Deployment ranker: app.hcl", "Requests", "Replicas", "Time (", "load", "target"} {
		if !strings.Contains(all, want) {
			t.Errorf("the drawing does not say %q", want)
		}
	}
}

func compareFile(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestReplayIsStoppedBySignals(t *testing.T) {
	folder := t.TempDir()
	spec := filepath.Join(folder, "app.hcl")
	if err := os.WriteFile(spec, []byte(replaySpec("max_replicas = 10")), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"autoscale", "replay", "-spec", spec, "-deployment", "ranker", "-tick", "1ms", "-until", "24h", "-load", "-"}
	for name, silent := range map[string]bool{"while it reads": true, "while it runs": false} {
		t.Run(name, func(t *testing.T) {
			never, end := io.Pipe()
			defer end.Close()
			ctx, cancel := context.WithCancel(t.Context())
			var stdin io.Reader = askedReader{asked: make(chan struct{}), never: never}
			if silent {
				go func() {
					<-stdin.(askedReader).asked
					cancel()
				}()
			} else {
				stdin = io.MultiReader(strings.NewReader("{\"at\": 0, \"requests\": 1}\n"), endedBy(cancel))
			}
			var out, errs bytes.Buffer
			b := &base{
				ctx: ctx, stdin: stdin, stdout: &out, stderr: &errs,
				getenv: func(string) string { return "" }, environ: func() []string { return nil },
			}
			if code := run(b, args); code != exitStopped || out.Len() > 0 {
				t.Errorf("exit code %d, want %d; %s%s", code, exitStopped, &out, &errs)
			}
		})
	}
}

// endedBy is an empty reader that does something when it is read.
type endedBy func()

func (f endedBy) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestRoundTicks(t *testing.T) {
	for _, test := range []struct {
		most  float64
		whole bool
		want  string
	}{
		{0, true, "0 1"},
		{0, false, "0 0.2 0.4 0.6 0.8 1"},
		{1, true, "0 1"},
		{10, true, "0 2 4 6 8 10"},
		{10.4, true, "0 2 4 6 8 10 12"},
		{7, false, "0 2 4 6 8"},
		{0.3, false, "0 0.05 0.1 0.15 0.2 0.25 0.3"},
		{1e9, false, "0 2e+08 4e+08 6e+08 8e+08 1e+09"},
	} {
		var labels []string
		for _, tick := range roundTicks(test.most, 6, test.whole) {
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != test.want {
			t.Errorf("up to %g: %s, want %s", test.most, got, test.want)
		}
	}
}

// A drawing of very many points has few, and its extremes are still there.
func TestThinKeepsTheExtremes(t *testing.T) {
	const count, peak = 100_000, 77_777
	points := make([]autoscale.Point, count)
	for i := range points {
		points[i] = autoscale.Point{At: time.Duration(i) * time.Millisecond, Value: 50 + 10*math.Sin(float64(i))}
	}
	points[peak].Value = 1000
	got := thin(points, count*time.Millisecond)
	most := 0.0
	for i, p := range got {
		if most = max(most, p.Value); i > 0 && p.At <= got[i-1].At {
			t.Fatalf("%v comes after %v", p, got[i-1])
		}
	}
	if len(got) > 4*(plotWidth+1) || most != 1000 || got[0] != points[0] || got[len(got)-1] != points[count-1] {
		t.Errorf("%d points, the largest %g", len(got), most)
	}
}
