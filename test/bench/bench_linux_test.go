package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test's own program be the children of a run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], childPrefix) {
		exit(runChild(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestRun has every kind of load that this program makes itself go through our
// proxy and the standard library's.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	o, err := parseOptions([]string{
		"-proxies=direct,ours,reverse-proxy", "-scenarios=paced,stream,idle,replicas",
		"-rounds=2", "-duration=200ms", "-rate=200", "-idle=20", "-replicas=10",
		"-json=" + filepath.Join(dir, "samples.json"), "-profile=" + filepath.Join(dir, "profiles"),
	})
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	if err := run(t.Context(), o, &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	b, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	var results []result
	if err := json.Unmarshal(b, &results); err != nil {
		t.Fatal(err)
	}
	rows := map[string]int{}
	for _, r := range results {
		rows[r.Scenario] = len(r.Rows)
		for _, row := range r.Rows {
			for _, s := range row.Samples {
				if s.Requests == 0 || s.Failed != 0 || s.P50 <= 0 || s.P99 < s.P50 {
					t.Errorf("%s, %s: %+v", r.Scenario, row.Peer, s)
				}
			}
			if row.Held == nil && len(row.Samples) != 2 {
				t.Errorf("%s, %s: %d samples", r.Scenario, row.Peer, len(row.Samples))
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"paced": 3, "stream": 3, "idle": 2, "replicas": 2}, rows); diff != "" {
		t.Errorf("proxies in each scenario (-want +got):\n%s", diff)
	}
	if n := strings.Count(out.String(), "| ours |"); n != 4 {
		t.Errorf("%d tables have a line of ours:\n%s", n, &out)
	}
	if _, err := os.Stat(filepath.Join(o.profile, "paced.pprof")); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"-proxies=envoy", "-scenarios=unary,", "-rounds=x"} {
		if _, err := parseOptions([]string{bad}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestParseWrk(t *testing.T) {
	t.Parallel()
	const out = `Running 3s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.64ms    1.11ms  17.60ms   82.15%
    Req/Sec    40.68k     2.52k   44.60k    70.00%
  Latency Distribution
     50%  635.00us
     75%    1.97ms
     90%    3.02ms
     99%    5.41ms
  121403 requests in 3.00s, 17.14MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 3
`
	got, err := parseWrk(out)
	want := measured{Requests: 121400, Failed: 13, Wall: 3 * time.Second, P50: 635 * time.Microsecond, P99: 5410 * time.Microsecond}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := parseWrk("unable to connect"); err == nil {
		t.Error("anything is taken")
	}
}

func TestReadH2load(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("1700000000000001\t200\t300\n1700000000000002\t503\t1\n1700000000000003\t200\t100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readH2load(path)
	want := measured{Requests: 2, Failed: 1, P50: 300 * time.Microsecond, P99: 300 * time.Microsecond}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	got, err := parseStat([]byte("42 (a ) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 1 0 1 1 1\n"))
	if err != nil || got.parent != 7 || got.cpu != 2*time.Second {
		t.Errorf("got %+v %v", got, err)
	}
	if _, err := parseStat([]byte("42 (a) S")); err == nil {
		t.Error("anything is taken")
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{3, 1, 9}, spread{3, 1, 9}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		if got := spreadOf(tt.values); got != tt.want {
			t.Errorf("%v: got %+v, want %+v", tt.values, got, tt.want)
		}
	}
}
