package loads_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// good is a report with nothing wrong about it.
func good() loads.Report {
	return loads.Report{
		Schema: loads.Schema, Proxy: "web-1", Incarnation: 1_700_000_000_000_000_000, Sequence: 3, Ready: true,
		Covers: time.Second, Next: time.Second,
		Deployments: []loads.Deployment{
			{Application: "search", Deployment: "ranker", Ongoing: 2, Queued: 1, Mean: 2.5, Max: 4, Min: 1},
			{Application: "search", Deployment: "embedder"},
			{Application: "chat", Deployment: "ranker", Mean: 1, Max: 1},
		},
		Served: []loads.Served{
			{Application: "search", Deployment: "ranker", Version: "v1", Ongoing: 2, Requests: 9, Errors: 1, Latency: map[int]uint64{0: 4, loads.LastBucket: 4}},
			{
				Application: "search", Deployment: "ranker", Version: "v2",
				Shadow: &loads.Shadowed{Requests: 3, Differing: 2, Errors: 1, Dropped: 7, Latency: map[int]uint64{5: 2}, Primary: map[int]uint64{4: 3}},
			},
		},
	}
}

func TestCheck(t *testing.T) {
	first := func(change func(d *loads.Deployment)) func(*loads.Report) {
		return func(r *loads.Report) { change(&r.Deployments[0]) }
	}
	served := func(change func(s *loads.Served)) func(*loads.Report) {
		return func(r *loads.Report) { change(&r.Served[1]) }
	}
	for _, test := range []struct {
		name   string
		change func(r *loads.Report)
		want   string // a part of the error; "": there is none
	}{
		{"a mean of nothing", func(r *loads.Report) { r.Deployments[2].Max = 0 }, `proxy "web-1": deployments[2]: chat/ranker: min is 0, mean 1 and max 0: they must be in this order`},
		{"good", func(*loads.Report) {}, ""},
		{"of an idle proxy", func(r *loads.Report) { r.Deployments = nil }, ""},
		{"that is not ready", func(r *loads.Report) { r.Deployments, r.Ready = nil, false }, ""},
		{"without a span", func(r *loads.Report) { r.Deployments, r.Covers, r.Next = nil, 0, 0 }, ""},
		{"at the bounds", func(r *loads.Report) {
			r.Covers, r.Next, r.Proxy = time.Hour, time.Hour, strings.Repeat("x", 256)
			r.Deployments = []loads.Deployment{{Application: "a", Deployment: "b", Ongoing: 1e9, Mean: 1e9, Max: 1e9, Min: 1e9}}
		}, ""},
		{"a mean that division left a bit high", func(r *loads.Report) {
			r.Deployments = []loads.Deployment{{Application: "a", Deployment: "b", Mean: 0.30000000000000004, Max: 0.3, Min: 0.3}}
		}, ""},
		{"a mean that division left a bit low", func(r *loads.Report) {
			r.Deployments = []loads.Deployment{{Application: "a", Deployment: "b", Mean: 0.3, Max: 0.30000000000000004, Min: 0.30000000000000004}}
		}, ""},

		{"another schema", func(r *loads.Report) { r.Schema = 2 }, "schema is 2, this server reads 1: run the same release"},
		{"no schema", func(r *loads.Report) { r.Schema = 0 }, "schema is 0"},
		{"no name", func(r *loads.Report) { r.Proxy = "" }, "proxy has no name"},
		{"a long name", func(r *loads.Report) { r.Proxy = strings.Repeat("x", 257) }, "proxy has a name of 257 bytes: at most 256 are taken"},
		{"a name that moves the cursor", func(r *loads.Report) { r.Proxy = "web\x1b[2J" }, `proxy has a name that cannot be printed: "web\x1b[2J"`},
		{"a name that is not text", func(r *loads.Report) { r.Proxy = "web\xff" }, `cannot be printed: "web\xff"`},
		{"incarnation 0", func(r *loads.Report) { r.Incarnation = 0 }, `proxy "web-1": incarnation is 0`},
		{"sequence 0", func(r *loads.Report) { r.Sequence = 0 }, "sequence is 0: the first report has 1"},
		{"loads without a table", func(r *loads.Report) { r.Ready = false }, "it names 3 deployments and is not ready"},
		{"a span below 0", func(r *loads.Report) { r.Covers = -1 }, "covers is -1ns: it must be from 0 to 1h0m0s"},
		{"a long span", func(r *loads.Report) { r.Covers = time.Hour + 1 }, "covers is 1h0m0.000000001s"},
		{"next below 0", func(r *loads.Report) { r.Next = math.MinInt64 }, "next is -2562047h"},
		{"a late next", func(r *loads.Report) { r.Next = math.MaxInt64 }, "next is 2562047h"},
		{"no application", first(func(d *loads.Deployment) { d.Application = "" }), "deployments[0]: application has no name"},
		{"no deployment", first(func(d *loads.Deployment) { d.Deployment = "" }), "deployments[0]: deployment has no name"},
		{"ongoing below 0", first(func(d *loads.Deployment) { d.Ongoing = -1 }), "search/ranker: ongoing is -1: it must be from 0 to 1e+09"},
		{"queued below 0", first(func(d *loads.Deployment) { d.Queued = math.MinInt }), "queued is -9.2"},
		{"too many in all", first(func(d *loads.Deployment) { d.Ongoing, d.Queued = 6e8, 6e8 }), "ongoing and queued is 1.2e+09"},
		{"as many as there are numbers", first(func(d *loads.Deployment) { d.Ongoing, d.Queued = math.MaxInt, math.MaxInt }), "ongoing is 9.2"},
		{"a load of 1e18", first(func(d *loads.Deployment) { d.Max = 1e18 }), "max is 1e+18: it must be from 0 to 1e+09"},
		{"a mean that is no number", first(func(d *loads.Deployment) { d.Mean = math.NaN() }), "mean is NaN"},
		{"a max without end", first(func(d *loads.Deployment) { d.Max = math.Inf(1) }), "max is +Inf"},
		{"a min without end", first(func(d *loads.Deployment) { d.Min = math.Inf(-1) }), "min is -Inf"},
		{"a mean above the max", first(func(d *loads.Deployment) { d.Mean = 4.1 }), "min is 1, mean 4.1 and max 4: they must be in this order"},
		{"a mean below the min", first(func(d *loads.Deployment) { d.Mean = 0.9 }), "min is 1, mean 0.9 and max 4"},
		{"a min above the max", first(func(d *loads.Deployment) { d.Min = 5 }), "min is 5, mean 2.5 and max 4"},
		{"a deployment twice", func(r *loads.Report) {
			r.Deployments[2] = r.Deployments[0]
		}, "deployments[0] and deployments[2] are both search/ranker"},
		{"a deployment twice in a row", func(r *loads.Report) {
			r.Deployments[2] = r.Deployments[1]
		}, "deployments[1] and deployments[2] are both search/embedder"},
		{"more than there can be", func(r *loads.Report) {
			r.Deployments = make([]loads.Deployment, 100_001)
		}, "it names 100001 deployments: at most 100000 are taken"},
		{"that does not come after the one before", func(r *loads.Report) { r.After = 3 }, "after is 3: it must be below its sequence, which is 3"},
		{"more versions than there can be", func(r *loads.Report) {
			r.Served = make([]loads.Served, 100_001)
		}, "it names 100001 versions: at most 100000 are taken"},
		{"a version twice", func(r *loads.Report) { r.Served[1].Version = "v1" }, "served[0] and served[1] are both version v1 of search/ranker"},
		{"no version", served(func(s *loads.Served) { s.Version = "" }), "served[1]: version has no name"},
		{"less than nothing ongoing", served(func(s *loads.Served) { s.Ongoing = -1 }), "version v2 of search/ranker: ongoing is -1"},
		{"more errors than requests", served(func(s *loads.Served) { s.Errors = 1 }), "errors is 1, of requests, which is 0"},
		{"more requests than anybody has", served(func(s *loads.Served) { s.Requests = math.MaxUint64 }), "requests is 18446744073709551615"},
		{"a bucket below 0", served(func(s *loads.Served) { s.Latency = map[int]uint64{-1: 1} }), "latency has a bucket -1: they are 0 to 184"},
		{"a bucket after the last", served(func(s *loads.Served) { s.Latency = map[int]uint64{185: 1} }), "latency has a bucket 185"},
		{"a full bucket", served(func(s *loads.Served) { s.Latency = map[int]uint64{7: 1e10} }), "latency[7] is 10000000000"},
		{"copies that differ and were not sent", served(func(s *loads.Served) { s.Shadow.Differing = 4 }), "shadow: differing is 4, of requests, which is 3"},
		{"copies that failed and were not sent", served(func(s *loads.Served) { s.Shadow.Errors = 4 }), "shadow: errors is 4"},
		{"more copies dropped than anybody has", served(func(s *loads.Served) { s.Shadow.Dropped = 1e10 }), "shadow: dropped is 10000000000"},
		{"a bucket of copies below 0", served(func(s *loads.Served) { s.Shadow.Latency[-7] = 1 }), "shadow: latency has a bucket -7"},
		{"a bucket of copied requests below 0", served(func(s *loads.Served) { s.Shadow.Primary[-7] = 1 }), "shadow: primary has a bucket -7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := good()
			test.change(&r)
			err := r.Check()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && err == nil:
				t.Error("taken")
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("the error is %q, want %q in it", err, test.want)
			}
		})
	}
}

// TestNamesInOrder holds that the short way to find duplicates and the long
// one agree.
func TestNamesInOrder(t *testing.T) {
	r := good()
	r.Deployments = nil
	for i := range 26 * 26 {
		name := func(i int) string { return string(rune('a' + i)) }
		r.Deployments = append(r.Deployments, loads.Deployment{Application: name(i / 26), Deployment: name(i % 26)})
	}
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	last := len(r.Deployments) - 1
	for _, i := range []int{0, 25, 26, last - 1} {
		was := r.Deployments[i]
		r.Deployments[i] = r.Deployments[last]
		if err := r.Check(); err == nil {
			t.Errorf("the last deployment is at %d too, and nobody minds", i)
		}
		r.Deployments[i] = was
	}
}

func FuzzCheck(f *testing.F) {
	text, err := json.Marshal(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"schema":1,"proxy":"p","incarnation":1,"sequence":1,"ready":true,"covers":1,"next":1,"deployments":[{"application":"a","deployment":"b","mean":1e18}]}`))
	f.Add([]byte(`{"schema":1,"proxy":"p","incarnation":1,"sequence":1,"leaving":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r loads.Report
		if json.Unmarshal(text, &r) != nil {
			return
		}
		if err := r.Check(); err != nil {
			if !strings.Contains(err.Error(), " ") || len(err.Error()) > 4*loads.MaxName+4096 {
				t.Fatalf("%q says nothing", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, d := range r.Deployments {
			for _, x := range []float64{d.Mean, d.Max, d.Min, float64(d.Ongoing), float64(d.Queued)} {
				if math.IsNaN(x) || x < 0 || x > loads.MaxRequests {
					t.Fatalf("%v was taken", x)
				}
			}
			name := fmt.Sprintf("%q/%q", d.Application, d.Deployment)
			if seen[name] {
				t.Fatalf("%s was taken twice", name)
			}
			seen[name] = true
		}
		if r.Proxy == "" || r.Sequence == 0 || r.Covers < 0 || r.Next < 0 {
			t.Fatalf("%+v was taken", r)
		}
	})
}
