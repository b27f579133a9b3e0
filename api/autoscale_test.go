package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// fakeScaler takes reports as the real one does, and explains one deployment.
type fakeScaler struct {
	mu    sync.Mutex
	taken []loads.Report
	err   error
}

func (f *fakeScaler) TakeLoads(r loads.Report) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if err := r.Check(); err != nil {
		return err
	}
	f.taken = append(f.taken, r)
	return nil
}

func (f *fakeScaler) Explain(application, deployment string) (autoscale.Explanation, error) {
	switch {
	case f.err != nil:
		return autoscale.Explanation{}, f.err
	case application != "search":
		return autoscale.Explanation{}, &raftstate.Refusal{Code: raftstate.CodeNotFound, Message: "no application " + application}
	case deployment != "web":
		return autoscale.Explanation{}, &raftstate.Refusal{Code: raftstate.CodeConflict, Message: deployment + " does not scale by itself"}
	}
	return autoscale.Explanation{
		Application: application, Deployment: deployment, Target: 3, Hold: "a proxy is silent",
		At:       time.Unix(1000, 0).UTC(),
		Decision: autoscale.Decision{Target: 3, Rules: []autoscale.Rule{{Name: "load", Wants: 4, Detail: "8 requests"}}},
	}, nil
}

func (f *fakeScaler) Proxies() (autoscale.ProxyList, error) {
	return autoscale.ProxyList{Proxies: []autoscale.ProxyReport{{Proxy: "n1:8000", Reports: 5}}, Refused: 2, LastRefusal: "schema is 9"}, f.err
}

func startScaler(t *testing.T) (*instance, *fakeScaler) {
	t.Helper()
	f := &fakeScaler{}
	return start(t, func(c *serve.ServerConfig) { c.Loads, c.Autoscaler = f, f }), f
}

func report() loads.Report {
	return loads.Report{
		Schema: loads.Schema, Proxy: "n1:8000", Incarnation: 17, Sequence: 1, Ready: true,
		Covers: time.Second, Next: time.Second,
		Deployments: []loads.Deployment{{Application: "search", Deployment: "web", Ongoing: 2, Queued: 1, Mean: 2.5, Max: 3}},
	}
}

func reportBody(t *testing.T, change func(*loads.Report)) string {
	t.Helper()
	r := report()
	change(&r)
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestLoadsAreTakenAndNotWritten(t *testing.T) {
	i, f := startScaler(t)
	if err := i.client.SendLoads(t.Context(), report()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]loads.Report{report()}, f.taken); d != "" {
		t.Error(d)
	}
	if len(i.proposed) != 0 {
		t.Errorf("a report was written to the log: %+v", i.proposed)
	}
}

func TestLoadsThatCannotBeUsed(t *testing.T) {
	i, f := startScaler(t)
	whole := reportBody(t, func(*loads.Report) {})
	many := reportBody(t, func(r *loads.Report) {
		r.Deployments = nil
		for n := range 50_000 { // about 6 MiB
			r.Deployments = append(r.Deployments, loads.Deployment{Application: fmt.Sprintf("application-%05d", n), Deployment: "web"})
		}
	})
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		says       string
	}{
		{"a good one", whole, nil, 200, "{}"},
		{"a large one", many, nil, 200, "{}"},
		{"one with a field of a later release", strings.Replace(whole, "{", `{"color":"blue",`, 1), nil, 200, "{}"},
		{"one of another schema", reportBody(t, func(r *loads.Report) { r.Schema = 7 }), nil, 400, "schema is 7, this server reads 1"},
		{"one of another schema and form", `{"schema": 7, "proxy": {"name": "n1"}}`, nil, 400, "schema is 7, this server reads 1"},
		{"one without a schema", `{"proxy": "n1"}`, nil, 400, "schema is 0"},
		{"another form", `{"schema": 1, "proxy": 5}`, nil, 400, "proxy cannot be a JSON number"},
		{"a list", `[]`, nil, 400, "the body cannot be a JSON array"},
		{"a load that cannot be", reportBody(t, func(r *loads.Report) { r.Deployments[0].Mean = 1e18 }), nil, 400, "mean is 1e+18"},
		{"a number that is too large", strings.Replace(whole, "2.5", "1e999", 1), nil, 400, "refused"},
		{"two values", whole + whole, nil, 400, "refused"},
		{"half of one", whole[:len(whole)/2], nil, 400, "refused"},
		{"nothing", "", []string{"Content-Type", "application/json"}, 400, "empty"},
		{"null", "null", nil, 400, "schema is 0"},
		{"very deep nesting", strings.Repeat("[", 1_000_000), nil, 400, "refused"},
		{"too much", strings.Repeat(" ", 16<<20) + whole, nil, 413, "16 MiB"},
		{"a form", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, ""},
		{"a page of another site", whole, []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(f.taken)
			resp, body := i.ask(t, "POST", "/v1/loads", c.body, c.headers...)
			if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%d %s, want %d and %q", resp.StatusCode, body, c.status, c.says)
			}
			if taken := len(f.taken) > before; taken != (c.status == 200) {
				t.Errorf("taken: %v", taken)
			}
		})
	}
	if resp, text := i.ask(t, "GET", "/v1/loads", ""); resp.StatusCode != 405 {
		t.Errorf("GET: %d %s", resp.StatusCode, text)
	}
}

func TestLoadsGoToTheLeader(t *testing.T) {
	leader, f := startScaler(t)
	follower, unused := startScaler(t)
	follower.setLeads(false)
	follower.transport = toServer(leader.http)
	large := report()
	for n := range 50_000 {
		large.Deployments = append(large.Deployments, loads.Deployment{Application: fmt.Sprintf("application-%05d", n), Deployment: "web"})
	}
	if err := follower.client.SendLoads(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	if len(f.taken) != 1 || len(unused.taken) != 0 {
		t.Errorf("the leader took %d reports, the follower %d", len(f.taken), len(unused.taken))
	}
	t.Run("a refusal comes back", func(t *testing.T) {
		bad := report()
		bad.Schema = 7
		if e := asError(t, follower.client.SendLoads(t.Context(), bad)); e.StatusCode != 400 || !strings.Contains(e.Message, "schema is 7") {
			t.Errorf("got %d %s", e.StatusCode, e.Message)
		}
	})
	t.Run("without a leader nothing is taken", func(t *testing.T) {
		follower.transport = nil
		if e := asError(t, follower.client.SendLoads(t.Context(), report())); e.Code != serve.CodeNoLeader {
			t.Errorf("got %s %s", e.Code, e.Message)
		}
	})
	t.Run("a leader that is gone", func(t *testing.T) {
		follower.transport = roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") })
		if e := asError(t, follower.client.SendLoads(t.Context(), report())); e.Code != serve.CodeUnavailable {
			t.Errorf("got %s %s", e.Code, e.Message)
		}
	})
	t.Run("a leader that has not begun to decide", func(t *testing.T) {
		f.err = serve.ErrNoLeader
		if e := asError(t, leader.client.SendLoads(t.Context(), report())); e.Code != serve.CodeNoLeader {
			t.Errorf("got %s %s", e.Code, e.Message)
		}
	})
}

// A report is worth nothing by the time that it would be sent again.
func TestLoadsAreSentOnce(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":"no leader","code":"no_leader"}`))
	}))
	t.Cleanup(server.Close)
	client, err := serve.NewClient(serve.ClientConfig{Address: server.URL, HTTPClient: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	if e := asError(t, client.SendLoads(t.Context(), report())); e.Code != serve.CodeNoLeader || sent.Load() != 1 {
		t.Errorf("sent %d times, then %v", sent.Load(), e)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.SendLoads(ended, report()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestExplain(t *testing.T) {
	i, f := startScaler(t)
	got, err := i.client.Explain(t.Context(), "search", "web")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := f.Explain("search", "web")
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	list, err := i.client.ReportingProxies(t.Context())
	if err != nil || list.Refused != 2 || len(list.Proxies) != 1 || list.Proxies[0].Proxy != "n1:8000" {
		t.Errorf("proxies: %+v, error %v", list, err)
	}
	for _, c := range []struct {
		app, deployment string
		status          int
		code            serve.Code
	}{
		{"nope", "web", 404, serve.CodeNotFound},
		{"search", "fixed", 409, serve.CodeConflict},
	} {
		_, err := i.client.Explain(t.Context(), c.app, c.deployment)
		if e := asError(t, err); e.StatusCode != c.status || e.Code != c.code {
			t.Errorf("%s/%s: %d %s", c.app, c.deployment, e.StatusCode, e.Message)
		}
	}
	f.err = fmt.Errorf("%w: nothing has been seen yet", serve.ErrUnavailable)
	_, err = i.client.Explain(t.Context(), "search", "web")
	if e := asError(t, err); e.StatusCode != 503 || !strings.Contains(e.Message, "nothing has been seen yet") {
		t.Errorf("got %d %s", e.StatusCode, e.Message)
	}
}

func TestAServerThatScalesNothingSaysSo(t *testing.T) {
	i := start(t)
	if e := asError(t, i.client.SendLoads(t.Context(), report())); e.StatusCode != 503 {
		t.Errorf("loads: %d %s", e.StatusCode, e.Message)
	}
	if _, err := i.client.ReportingProxies(t.Context()); asError(t, err).StatusCode != 503 {
		t.Errorf("proxies: %v", err)
	}
}
