package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// ask sends one request as it is, and reads the answer.
func (i *instance) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, i.http.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for n := 0; n+1 < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	resp, err := i.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

func deployBody(t *testing.T, change func(*serve.DeployRequest)) string {
	t.Helper()
	req := serve.DeployRequest{RequestID: "r1", Applications: []*appspec.Application{spec("search")}}
	if change != nil {
		change(&req)
	}
	data, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestMisuse(t *testing.T) {
	i := start(t)
	i.deployed(t, "search")
	app := "/v1/applications/search"
	scalePath := app + "/deployments/web/scale"
	deep := strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     serve.Code
		says                     string
	}{
		{"an unknown path", "GET", "/v1/nothing", "", nil, 404, serve.CodeNotFound, "/v1/"},
		{"a path with an empty segment", "GET", "/v1/applications/", "", nil, 404, serve.CodeNotFound, ""},
		{"a wrong method", "POST", "/v1/applications", "{}", nil, 405, serve.CodeMethodNotAllowed, "GET, PUT"},
		{"a wrong method on the landing page", "DELETE", "/", "", nil, 405, serve.CodeMethodNotAllowed, "GET"},
		{"an unknown parameter", "GET", "/v1/applications?stael", "", nil, 400, serve.CodeInvalid, "stael"},
		{"a parameter given twice", "GET", "/v1/applications?index=1&index=2", "", nil, 400, serve.CodeInvalid, "2 times"},
		{"an index that is no number", "GET", "/v1/applications?index=-1", "", nil, 400, serve.CodeInvalid, "index"},
		{"a wait that is no duration", "GET", "/v1/applications?wait=soon", "", nil, 400, serve.CodeInvalid, "wait"},
		{"a negative wait", "GET", "/v1/applications?wait=-1s", "", nil, 400, serve.CodeInvalid, "wait"},
		{"no content type", "PUT", "/v1/applications", "{}", []string{"Content-Type", ""}, 415, serve.CodeUnsupportedMedia, ""},
		{"a form", "PUT", "/v1/applications", "a=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, serve.CodeUnsupportedMedia, ""},
		{"another charset", "PUT", "/v1/applications", "{}", []string{"Content-Type", "application/json; charset=latin1"}, 415, serve.CodeUnsupportedMedia, ""},
		{"a compressed body", "PUT", "/v1/applications", "{}", []string{"Content-Encoding", "gzip"}, 415, serve.CodeUnsupportedMedia, ""},
		{"an empty body", "PUT", "/v1/applications", "", []string{"Content-Type", "application/json"}, 400, serve.CodeInvalid, "empty"},
		{"a body of spaces", "PUT", "/v1/applications", " \n", nil, 400, serve.CodeInvalid, "empty"},
		{"no JSON", "PUT", "/v1/applications", "{\n  \"a\" 1}", nil, 400, serve.CodeInvalid, "line 2"},
		{"JSON that ends too early", "PUT", "/v1/applications", `{"applications":[`, nil, 400, serve.CodeInvalid, "too early"},
		{"an unknown field", "PUT", "/v1/applications", `{"application":[]}`, nil, 400, serve.CodeInvalid, "application"},
		{"a key that comes twice", "PUT", "/v1/applications", `{"applications":[],"applications":[]}`, nil, 400, serve.CodeInvalid, "twice"},
		{"something behind the value", "PUT", "/v1/applications", `{"applications":[]} {}`, nil, 400, serve.CodeInvalid, "follows"},
		{"a value of another kind", "PUT", "/v1/applications", `{"applications":7}`, nil, 400, serve.CodeInvalid, "applications"},
		{"invalid UTF-8", "PUT", "/v1/applications", "{\"message\":\"\xff\"}", nil, 400, serve.CodeInvalid, "UTF-8"},
		{"a number that is too large", "PUT", "/v1/applications", `{"check_index":{"a":1e400}}`, nil, 400, serve.CodeInvalid, ""},
		{"deep nesting", "PUT", "/v1/applications", deep, nil, 400, serve.CodeInvalid, "100 deep"},
		{"very deep nesting", "PUT", "/v1/applications", strings.Repeat("[", 1_000_000), nil, 400, serve.CodeInvalid, "100 deep"},
		{"a large body", "PUT", "/v1/applications", strings.Repeat(" ", 4<<20) + "{}", nil, 413, serve.CodeTooLarge, "4 MiB"},
		{"nothing to deploy", "PUT", "/v1/applications", `{}`, nil, 400, serve.CodeInvalid, "nothing to deploy"},
		{"a null application", "PUT", "/v1/applications", `{"applications":[null]}`, nil, 400, serve.CodeInvalid, ""},
		{"a null deployment", "PUT", "/v1/applications", `{"applications":[{"name":"a","route_prefix":"/a","deployments":[null]}]}`, nil, 400, serve.CodeInvalid, ""},
		{"a page of another site", "PUT", "/v1/applications", "{}", []string{"Sec-Fetch-Site", "cross-site"}, 403, serve.CodeForbidden, ""},
		{"an application that is not there", "GET", "/v1/applications/nope", "", nil, 404, serve.CodeNotFound, "nope"},
		{"a version that is not there", "GET", app + "/spec?version=9", "", nil, 404, serve.CodeNotFound, "version 9"},
		{"deleting what is not there", "DELETE", "/v1/applications/nope", "", nil, 404, serve.CodeNotFound, "nope"},
		{"scaling what is not there", "POST", "/v1/applications/search/deployments/nope/scale", `{"replicas":1}`, nil, 404, serve.CodeNotFound, "web"},
		{"scaling to no number", "POST", scalePath, `{}`, nil, 400, serve.CodeInvalid, ""},
		{"scaling below 0", "POST", scalePath, `{"replicas":-1}`, nil, 400, serve.CodeInvalid, ""},
		{"scaling far too high", "POST", scalePath, `{"replicas":1000000000}`, nil, 400, serve.CodeInvalid, ""},
		{"a message with a line break", "POST", scalePath, `{"replicas":1,"message":"a\nb"}`, nil, 400, serve.CodeInvalid, ""},
		{"a long request id", "POST", scalePath, `{"replicas":1,"request_id":"` + strings.Repeat("x", 200) + `"}`, nil, 400, serve.CodeInvalid, ""},
		{"a log stream that is not there", "GET", app + "/deployments/web/logs?stream=stdin", "", nil, 400, serve.CodeInvalid, "stdout or stderr"},
		{"a replica that is not there", "GET", app + "/deployments/web/logs?replica=ffff", "", nil, 404, serve.CodeNotFound, "ffff"},
		{"a replica id that is not clear", "GET", app + "/deployments/web/logs?replica=aaaa", "", nil, 400, serve.CodeInvalid, "2 replicas"},
		{"a tail that is too long", "GET", app + "/deployments/web/logs?tail=100000000", "", nil, 400, serve.CodeInvalid, "tail"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := i.View().State
			resp, body := i.ask(t, c.method, c.path, c.body, c.headers...)
			if resp.StatusCode != c.status {
				t.Fatalf("status %d, want %d: %s", resp.StatusCode, c.status, body)
			}
			var got serve.ErrorResponse
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("the answer is not JSON: %v: %s", err, body)
			}
			if got.Code != c.code || got.Error == "" || !strings.Contains(body, c.says) {
				t.Errorf("got %s, want code %s and %q in it", body, c.code, c.says)
			}
			if c.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
			if after := i.View().State; !maps.Equal(after.Applications, before.Applications) || len(after.Events) != len(before.Events) {
				t.Error("the state changed")
			}
		})
	}
}

func TestDeployReturnsEveryFault(t *testing.T) {
	i := start(t)
	bad := spec("search")
	bad.RoutePrefix = "search"
	bad.Deployments[0].MaxOngoingRequests = 0
	_, err := i.client.Deploy(t.Context(), serve.DeployRequest{
		Applications: []*appspec.Application{bad}, CheckIndex: map[string]uint64{"other": 1},
	})
	if e := asError(t, err); e.StatusCode != 400 || len(e.Faults) < 3 {
		t.Errorf("got status %d and faults %v, want 400 and three faults", e.StatusCode, e.Faults)
	}
	if len(i.proposed) != 0 {
		t.Error("a faulty spec was proposed")
	}
}

func TestLifeOfAnApplication(t *testing.T) {
	i, ctx := start(t), t.Context()
	request := serve.DeployRequest{Applications: []*appspec.Application{spec("search")}, By: "me", Message: "first"}
	first, err := i.client.Deploy(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	want := []serve.Deployed{{Name: "search", Version: 1, ModifyIndex: first.Index, Changed: true}}
	if d := cmp.Diff(want, first.Applications); d != "" {
		t.Error(d)
	}
	if hash := i.proposed[0].Deploy.Applications[0].Hashes["web"]; hash != appspec.VersionOf(spec("search"), spec("search").Deployments[0]) {
		t.Errorf("deployment version %q is not appspec's", hash)
	}

	t.Run("the same spec changes nothing", func(t *testing.T) {
		again, err := i.client.Deploy(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		if again.Applications[0].Changed || again.Applications[0].Version != 1 {
			t.Errorf("got %+v, want version 1 unchanged", again.Applications[0])
		}
	})
	t.Run("a stale check index is a conflict", func(t *testing.T) {
		stale := request
		stale.CheckIndex = map[string]uint64{"search": 0}
		_, err := i.client.Deploy(ctx, stale)
		if e := asError(t, err); e.StatusCode != http.StatusConflict || !strings.Contains(e.Message, "by me") {
			t.Errorf("got %d %s, want 409 and who changed it", e.StatusCode, e.Message)
		}
	})
	t.Run("it is listed, read and remembered", func(t *testing.T) {
		list, index, err := i.client.Applications(ctx, serve.Query{})
		if err != nil || len(list) != 1 || index == 0 {
			t.Fatalf("got %d applications, index %d, error %v", len(list), index, err)
		}
		one, _, err := i.client.Application(ctx, "search", serve.Query{})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(list[0], one); d != "" {
			t.Error(d)
		}
		got, err := i.client.Spec(ctx, "search", 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(spec("search"), got); d != "" {
			t.Error(d)
		}
		history, err := i.client.History(ctx, "search")
		if err != nil || len(history) != 1 || history[0].Message != "first" || !history[0].Serving {
			t.Errorf("got history %+v, error %v", history, err)
		}
	})
	t.Run("it is scaled to zero when that is said", func(t *testing.T) {
		if _, err := i.client.Scale(ctx, "search", "web", serve.ScaleRequest{Replicas: 0}); err != nil {
			t.Fatal(err)
		}
		if n := i.View().State.Applications["search"].Wanted.Replicas["web"]; n != 0 {
			t.Errorf("%d replicas are wanted", n)
		}
	})
	t.Run("it is deleted", func(t *testing.T) {
		if _, err := i.client.Delete(ctx, "search", serve.DeleteRequest{Message: "done & over", By: "me"}); err != nil {
			t.Fatal(err)
		}
		if !i.View().State.Applications["search"].Deleting {
			t.Error("it is not being deleted")
		}
	})
	t.Run("all of it is in the events", func(t *testing.T) {
		events, _, err := i.client.Events(ctx, "search", serve.Query{})
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, e := range events {
			kinds = append(kinds, e.Type)
		}
		if d := cmp.Diff([]string{"deployed", "scaled", "deleting"}, kinds); d != "" {
			t.Error(d)
		}
		none, _, err := i.client.Events(ctx, "other", serve.Query{})
		if err != nil || len(none) != 0 {
			t.Errorf("another application has events %v, error %v", none, err)
		}
	})
}

func TestPlanSaysWhatDeployWouldDo(t *testing.T) {
	i, ctx := start(t), t.Context()
	i.update(func(v *serve.View) {
		w := *v.World
		w.CoreMHz = map[string]int{"": 1000, "default": 1000}
		v.World = &w
	})
	plan := func(app *appspec.Application) serve.ApplicationPlan {
		t.Helper()
		answer, err := i.client.Plan(ctx, serve.PlanRequest{Applications: []*appspec.Application{app}})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Applications[0]
	}
	fresh := plan(spec("search"))
	if fresh.Action != serve.ActionCreate || fresh.CheckIndex != 0 || len(fresh.Changes) == 0 || len(fresh.Steps) == 0 {
		t.Errorf("a new application: %+v", fresh)
	}
	i.deployed(t, "search")
	if same := plan(spec("search")); same.Action != serve.ActionNone || len(same.Changes)+len(same.Steps) != 0 {
		t.Errorf("the same application: %+v", same)
	}
	changed := spec("search")
	changed.Deployments[0].NumReplicas = 7
	update := plan(changed)
	if update.Action != serve.ActionUpdate || update.CheckIndex != i.View().State.Applications["search"].ModifyIndex {
		t.Errorf("a changed application: %+v", update)
	}
	want := []appspec.Change{{Path: "deployment.web.num_replicas", Old: "2", New: "7", Effect: appspec.EffectLive}}
	if d := cmp.Diff(want, update.Changes); d != "" {
		t.Error(d)
	}
	if len(i.proposed) != 1 {
		t.Error("plan proposed something")
	}
	if _, err := i.client.Scale(ctx, "search", "web", serve.ScaleRequest{Replicas: 4}); err != nil {
		t.Fatal(err)
	}
	want[0].Old, want[0].New = "4", "2"
	if d := cmp.Diff(want, plan(spec("search")).Changes); d != "" {
		t.Errorf("scaled since: %s", d)
	}
	clash := spec("other")
	clash.RoutePrefix = "/search"
	_, err := i.client.Plan(ctx, serve.PlanRequest{Applications: []*appspec.Application{clash}})
	if e := asError(t, err); e.StatusCode != http.StatusConflict {
		t.Errorf("a route that is taken: %d %s", e.StatusCode, e.Message)
	}
}

// A spec that leaves out what has a default is the same as one that names it.
func TestWhatASpecMayLeaveOut(t *testing.T) {
	i := start(t)
	body := deployBody(t, func(r *serve.DeployRequest) {
		d := r.Applications[0].Deployments[0]
		d.NumReplicas = 0
		d.Autoscaling = &appspec.Autoscaling{
			MinReplicas: 1, MaxReplicas: 5, InitialReplicas: new(3), TargetOngoingRequests: 2, UpscalingFactor: 1,
			DownscalingFactor: 1, MetricsInterval: appspec.Duration(time.Second), Aggregation: "mean",
		}
	})
	if resp, text := i.ask(t, "PUT", "/v1/applications", body); resp.StatusCode != 200 {
		t.Fatal(text)
	}
	d := i.View().State.Applications["search"].Wanted.Spec.Deployments[0]
	if d.NumReplicas != 3 || d.Autoscaling.Policy != appspec.PolicyRay {
		t.Errorf("%d replicas, policy %q", d.NumReplicas, d.Autoscaling.Policy)
	}
}

func TestPlanWithoutNomadStillShowsChanges(t *testing.T) {
	i := start(t, func(c *serve.ServerConfig) {
		c.Planner = &previewer{err: errors.New("nomad at 10.0.0.1 does not answer")}
	})
	answer, err := i.client.Plan(t.Context(), serve.PlanRequest{Applications: []*appspec.Application{spec("search")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Applications[0].Changes) == 0 || !strings.Contains(strings.Join(answer.Warnings, ""), "10.0.0.1") {
		t.Errorf("got %+v", answer)
	}
}

func TestRequestIDs(t *testing.T) {
	i := start(t)
	body := deployBody(t, nil)
	if resp, text := i.ask(t, "PUT", "/v1/applications", body); resp.StatusCode != 200 {
		t.Fatal(text)
	}
	t.Run("the same request sent again is applied once", func(t *testing.T) {
		before := i.View().State.Applications["search"]
		resp, text := i.ask(t, "PUT", "/v1/applications", body)
		if resp.StatusCode != 200 || i.View().State.Applications["search"] != before {
			t.Errorf("status %d: %s", resp.StatusCode, text)
		}
		var answer serve.DeployResponse
		if err := json.Unmarshal([]byte(text), &answer); err != nil || !answer.Applications[0].Changed {
			t.Errorf("the answer is not the first one's: %s, error %v", text, err)
		}
	})
	t.Run("another request with the same id is refused", func(t *testing.T) {
		other := deployBody(t, func(r *serve.DeployRequest) { r.Applications[0].Deployments[0].NumReplicas = 3 })
		resp, text := i.ask(t, "PUT", "/v1/applications", other)
		if resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, "request_id_reused") {
			t.Errorf("status %d: %s", resp.StatusCode, text)
		}
	})
}

func TestAWriteWhoseOutcomeIsNotKnown(t *testing.T) {
	i := start(t)
	i.propose = func(raftstate.Command) error { return errors.New("leadership lost") }
	resp, text := i.ask(t, "PUT", "/v1/applications", deployBody(t, nil))
	var got serve.ErrorResponse
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 500 || got.Code != serve.CodeUnknownOutcome || got.RequestID != "r1" || !strings.Contains(got.Error, "request_id") {
		t.Errorf("status %d: %s", resp.StatusCode, text)
	}
}

func TestReadsOfTheServerItself(t *testing.T) {
	i := start(t)
	i.setLeads(false)
	ctx := t.Context()
	self, err := i.client.Self(ctx)
	if err != nil || self.ClusterID != "c1" || self.Leader {
		t.Errorf("self: %+v, error %v", self, err)
	}
	health, err := i.client.Health(ctx)
	if err != nil || !health.OK || health.HasLeader {
		t.Errorf("health: %+v, error %v", health, err)
	}
	peers, err := i.client.Peers(ctx)
	if err != nil || len(peers) != 1 {
		t.Errorf("peers: %+v, error %v", peers, err)
	}
	if resp, text := i.ask(t, "GET", "/v1/status/leader", ""); resp.StatusCode != 503 || !strings.Contains(text, "no_leader") {
		t.Errorf("leader: %d %s", resp.StatusCode, text)
	}
	resp, text := i.ask(t, "GET", "/", "")
	if resp.StatusCode != 200 || !strings.Contains(text, "http://nomad") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("landing: %d %s", resp.StatusCode, text)
	}
	if resp, _ := i.ask(t, "HEAD", "/v1/agent/health", ""); resp.StatusCode != 200 {
		t.Errorf("HEAD: %d", resp.StatusCode)
	}
}

func TestWithoutALeader(t *testing.T) {
	i := start(t)
	i.deployed(t, "search")
	i.setLeads(false)
	i.update(func(v *serve.View) { v.World = nil })
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/applications", ""},
		{"PUT", "/v1/applications", deployBody(t, nil)},
		{"DELETE", "/v1/applications/search", ""},
	} {
		resp, text := i.ask(t, c.method, c.path, c.body)
		if resp.StatusCode != 503 || !strings.Contains(text, `"no_leader"`) || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", c.method, c.path, resp.StatusCode, text)
		}
	}
	list, _, err := i.client.Applications(t.Context(), serve.Query{Stale: true})
	if err != nil || len(list) != 1 || list[0].Status != "unknown" {
		t.Errorf("a stale read gives %+v, error %v", list, err)
	}
}

func TestAFreshLeaderSaysThatItHasNotLooked(t *testing.T) {
	i := start(t)
	i.deployed(t, "search")
	i.update(func(v *serve.View) { v.World = nil })
	one, _, err := i.client.Application(t.Context(), "search", serve.Query{})
	if err != nil || one.Status != "unknown" || !strings.Contains(one.Reason, "not seen yet") {
		t.Errorf("got %+v, error %v", one, err)
	}
	if resp, text := i.ask(t, "GET", "/v1/applications/search/deployments/web/logs", ""); resp.StatusCode != 503 {
		t.Errorf("logs: %d %s", resp.StatusCode, text)
	}
}

func TestASlowBodyIsCutOff(t *testing.T) {
	i := start(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", i.http.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "PUT /v1/applications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n\r\n{")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 256)
	n, err := conn.Read(buffer)
	if err != nil || !strings.Contains(string(buffer[:n]), "413") {
		t.Errorf("a body that announces itself as too large: %q, error %v", buffer[:n], err)
	}
}

func TestAHandlerThatPanicsAnswersOnce(t *testing.T) {
	i := start(t, func(c *serve.ServerConfig) {
		c.Logs = serve.LogFunc(func(context.Context, serve.LogRequest) (io.ReadCloser, error) { panic("boom") })
	})
	i.deployed(t, "search")
	resp, text := i.ask(t, "GET", "/v1/applications/search/deployments/web/logs", "")
	if resp.StatusCode != 500 || !strings.Contains(text, "internal") || strings.Contains(text, "boom") {
		t.Errorf("got %d %s", resp.StatusCode, text)
	}
}

func TestForwarding(t *testing.T) {
	leader := start(t)
	leader.deployed(t, "search")
	follower := start(t, func(c *serve.ServerConfig) { c.Info.ID = "s2" })
	follower.setLeads(false)
	follower.transport = toServer(leader.http)
	ctx := t.Context()

	t.Run("reads and writes reach the leader", func(t *testing.T) {
		if _, _, err := follower.client.Application(ctx, "search", serve.Query{}); err != nil {
			t.Error(err)
		}
		answer, err := follower.client.Deploy(ctx, serve.DeployRequest{Applications: []*appspec.Application{spec("other")}})
		if err != nil || answer.Applications[0].Version != 1 {
			t.Errorf("got %+v, error %v", answer, err)
		}
		if leader.View().State.Applications["other"] == nil || follower.View().State.Applications["other"] != nil {
			t.Error("the write did not go to the leader alone")
		}
	})
	t.Run("a stale read does not", func(t *testing.T) {
		list, _, err := follower.client.Applications(ctx, serve.Query{Stale: true})
		if err != nil || len(list) != 0 {
			t.Errorf("got %+v, error %v", list, err)
		}
	})
	t.Run("errors come back as they are", func(t *testing.T) {
		_, _, err := follower.client.Application(ctx, "nope", serve.Query{})
		if e := asError(t, err); e.StatusCode != 404 {
			t.Errorf("got %d %s", e.StatusCode, e.Message)
		}
	})
	t.Run("two followers that take each other for the leader do not loop", func(t *testing.T) {
		other := start(t)
		other.setLeads(false)
		other.transport = toServer(follower.http)
		follower.transport = toServer(other.http)
		defer func() { follower.transport = toServer(leader.http) }()
		resp, text := follower.ask(t, "GET", "/v1/applications", "")
		if resp.StatusCode != 503 || !strings.Contains(text, "no_leader") {
			t.Errorf("got %d %s", resp.StatusCode, text)
		}
	})
	t.Run("a leader that breaks off leaves a write unknown and a read unanswered", func(t *testing.T) {
		follower.transport = roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") })
		defer func() { follower.transport = toServer(leader.http) }()
		if resp, text := follower.ask(t, "PUT", "/v1/applications", deployBody(t, nil)); resp.StatusCode != 500 || !strings.Contains(text, "unknown_outcome") {
			t.Errorf("write: %d %s", resp.StatusCode, text)
		}
		if resp, text := follower.ask(t, "GET", "/v1/applications", ""); resp.StatusCode != 503 || !strings.Contains(text, "unavailable") {
			t.Errorf("read: %d %s", resp.StatusCode, text)
		}
	})
	t.Run("a large body is refused before it is passed on", func(t *testing.T) {
		resp, _ := follower.ask(t, "PUT", "/v1/applications", strings.Repeat(" ", 4<<20)+"{}")
		if resp.StatusCode != 413 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

func TestShutdownEndsBlockingQueries(t *testing.T) {
	cluster := newFakeCluster()
	server := serve.NewServer(serve.ServerConfig{Cluster: cluster})
	ctx, cancel := context.WithCancel(t.Context())
	ts := httptest.NewUnstartedServer(server)
	ts.Config = server.HTTPServer(ctx)
	ts.Start()
	defer ts.Close()
	client, err := serve.NewClient(serve.ClientConfig{Address: ts.URL, HTTPClient: ts.Client()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := client.Applications(t.Context(), serve.Query{Index: 1, Wait: 5 * time.Minute})
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the query is still there")
	}
}
