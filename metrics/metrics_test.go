package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/metrics"
)

// answers is a server that answers every request with body.
func answers(t *testing.T, status int, body string) *httptest.Server {
	t.Helper()
	return serving(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
}

func serving(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server
}

// hangs is a server that never answers.
func hangs(t *testing.T) *httptest.Server {
	t.Helper()
	over := make(chan struct{})
	server := serving(t, func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) }) // before the server closes, which waits
	return server
}

func hostPort(s *httptest.Server) string { return s.Listener.Addr().String() }

func client(t *testing.T, cfg metrics.Config) *metrics.Client {
	t.Helper()
	c, err := metrics.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// want checks a number, or what an error must say.
func want(t *testing.T, got float64, err error, value float64, says string) {
	t.Helper()
	switch {
	case says == "" && err != nil:
		t.Errorf("got the error %v, want %g", err, value)
	case says == "" && got != value:
		t.Errorf("got %g, want %g", got, value)
	case says != "" && err == nil:
		t.Errorf("got %g, want an error with %q", got, says)
	case says != "" && !strings.Contains(err.Error(), says):
		t.Errorf("got the error %q, want %q in it", err, says)
	case says != "" && len(err.Error()) > 600:
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

func TestPrometheus(t *testing.T) {
	good := func(kind, result string) string {
		return `{"status":"success","data":{"resultType":"` + kind + `","result":` + result + `}}`
	}
	sample := func(value string) string { return `{"metric":{"job":"a"},"value":[1700000000,"` + value + `"]}` }
	for _, c := range []struct {
		name   string
		status int
		body   string
		value  float64
		says   string
	}{
		{"a scalar", 200, good("scalar", `[1700000000,"3.5"]`), 3.5, ""},
		{"a vector of one", 200, good("vector", "["+sample("12")+"]"), 12, ""},
		{"zero", 200, good("vector", "["+sample("0")+"]"), 0, ""},
		{"an empty vector", 200, good("vector", "[]"), 0, "found nothing"},
		{"a vector of two", 200, good("vector", "["+sample("1")+","+sample("2")+"]"), 0, "2 series"},
		{"a matrix", 200, good("matrix", `[{"metric":{},"values":[[1,"1"]]}]`), 0, "matrix"},
		{"a text", 200, good("string", `[1700000000,"hello"]`), 0, "string"},
		{"a histogram", 200, good("vector", `[{"metric":{},"histogram":[1700000000,{"count":"1","sum":"1"}]}]`), 0, "histogram"},
		{"nothing in the vector", 200, good("vector", "[null]"), 0, "without a value"},
		{"no value", 200, good("vector", `[{"metric":{}}]`), 0, "without a value"},
		{"null for a value", 200, good("vector", `[{"metric":{},"value":null}]`), 0, "without a value"},
		{"NaN", 200, good("vector", "["+sample("NaN")+"]"), 0, "NaN"},
		{"infinite", 200, good("vector", "["+sample("+Inf")+"]"), 0, "infinite"},
		{"below 0", 200, good("scalar", `[1700000000,"-1"]`), 0, "below 0"},
		{"beyond all measure", 200, good("scalar", `[1700000000,"1e300"]`), 0, "1e+300"},
		{"no JSON", 200, "<html>hello</html>", 0, "bad_response"},
		{"nothing", 200, "", 0, "bad_response"},
		{"JSON of another kind", 200, `{"hello":"world"}`, 0, ""},
		{"a fault in the query", 400, `{"status":"error","errorType":"bad_data","error":"parse error at char 3"}`, 0, "parse error at char 3"},
		{"a part of the data", 200, `{"status":"success","warnings":["store 10.0.0.1 is down"],"data":{"resultType":"scalar","result":[1,"5"]}}`, 0, "store 10.0.0.1 is down"},
		{"a remark about the query", 200, `{"status":"success","warnings":["PromQL warning: mixed"],"data":{"resultType":"scalar","result":[1,"5"]}}`, 5, ""},
		{"the wrong token", 401, "who are you?", 0, "401"},
		{"a fault of the server", 500, "oh", 0, "500"},
		{"too much", 200, strings.Repeat(" ", 2<<20) + good("scalar", `[1,"1"]`), 0, "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := answers(t, c.status, c.body)
			value, err := client(t, metrics.Config{PrometheusAddress: server.URL}).Query(t.Context(), "up")
			if c.name == "JSON of another kind" {
				if err == nil {
					t.Errorf("got %g", value)
				}
				return
			}
			want(t, value, err, c.value, c.says)
		})
	}
}

// TestNumber: what a rollout is held to may be any number.
func TestNumber(t *testing.T) {
	for _, c := range []struct {
		value string
		want  float64
		says  string
	}{
		{"-1.5", -1.5, ""},
		{"1e300", 1e300, ""},
		{"NaN", 0, "not a number"},
		{"-Inf", 0, "infinite"},
	} {
		t.Run(c.value, func(t *testing.T) {
			server := answers(t, 200, `{"status":"success","data":{"resultType":"scalar","result":[1700000000,"`+c.value+`"]}}`)
			value, err := client(t, metrics.Config{PrometheusAddress: server.URL}).Number(t.Context(), "up")
			want(t, value, err, c.want, c.says)
		})
	}
}

func TestPrometheusIsAskedWithTheQueryAndTheToken(t *testing.T) {
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("query") != `sum(queue{app="a"})` || r.URL.Path != "/base/api/v1/query" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("asked %s with %q and %q", r.URL, r.FormValue("query"), r.Header.Get("Authorization"))
		}
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`))
	})
	value, err := client(t, metrics.Config{PrometheusAddress: server.URL + "/base", PrometheusToken: "secret"}).Query(t.Context(), `sum(queue{app="a"})`)
	want(t, value, err, 2, "")
}

func TestPasswordInTheAddressIsNotShown(t *testing.T) {
	server := answers(t, 500, "oh")
	address := strings.Replace(server.URL, "http://", "http://me:secret@", 1)
	_, err := client(t, metrics.Config{PrometheusAddress: address}).Query(t.Context(), "up")
	want(t, 0, err, 0, "500")
	if strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestNoConnectionToAReplicaIsKept(t *testing.T) {
	server := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if !r.Close {
			t.Error("a replica that does one thing at a time would wait for another question")
		}
		_, _ = w.Write([]byte(`{"n": 1}`))
	})
	value, err := client(t, metrics.Config{}).Replicas(t.Context(), []string{hostPort(server)}, "/load", "n")
	want(t, value, err, 1, "")
}

func TestPrometheusThatIsNotThere(t *testing.T) {
	c := client(t, metrics.Config{})
	if _, err := c.Query(t.Context(), "up"); !errors.Is(err, metrics.ErrNoPrometheus) {
		t.Errorf("got %v", err)
	}
	gone := answers(t, 200, "")
	address := gone.URL
	gone.Close()
	_, err := client(t, metrics.Config{PrometheusAddress: address}).Query(t.Context(), "up")
	want(t, 0, err, 0, "connection refused")
	for _, bad := range []string{"127.0.0.1:9090", "ftp://host", "http://", "::"} {
		if _, err := metrics.New(metrics.Config{PrometheusAddress: bad}); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:9090") {
			t.Errorf("address %q: got %v", bad, err)
		}
	}
}

func TestNothingFollowsARedirect(t *testing.T) {
	var reached atomic.Bool
	secret := serving(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	server := serving(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, secret.URL, http.StatusFound) })
	c := client(t, metrics.Config{PrometheusAddress: server.URL})
	_, err := c.Replicas(t.Context(), []string{hostPort(server)}, "/load", "n")
	want(t, 0, err, 0, "302")
	if _, err := c.Query(t.Context(), "up"); err == nil {
		t.Error("a redirect was taken for an answer")
	}
	if reached.Load() {
		t.Error("a redirect was followed")
	}
}

func TestASourceThatHangsIsLeft(t *testing.T) {
	server := hangs(t)
	c := client(t, metrics.Config{PrometheusAddress: server.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Query(ctx, "up")
	want(t, 0, err, 0, "no answer within")
	_, err = c.Replicas(ctx, []string{hostPort(server)}, "/load", "n")
	want(t, 0, err, 0, "no answer within")
}

func TestReplicaAnswers(t *testing.T) {
	for _, c := range []struct {
		name, field string
		status      int
		body        string
		value       float64
		says        string
	}{
		{"a number", "n", 200, `{"n": 2.5}`, 2.5, ""},
		{"a number further down", "queue.depth", 200, `{"queue": {"depth": 7}}`, 7, ""},
		{"a number in a list", "queues.1.depth", 200, `{"queues": [{"depth": 1}, {"depth": 4}]}`, 4, ""},
		{"the length of a list", "queues.#", 200, `{"queues": [1, 2, 3]}`, 3, ""},
		{"no such field", "queue.depth", 200, `{"queue": {}}`, 0, `no field "queue.depth"`},
		{"a text", "n", 200, `{"n": "2"}`, 0, "not a number"},
		{"null", "n", 200, `{"n": null}`, 0, "not a number"},
		{"true", "n", 200, `{"n": true}`, 0, "not a number"},
		{"an object", "n", 200, `{"n": {"a": 1}}`, 0, "not a number"},
		{"too large a number", "n", 200, `{"n": 1e999}`, 0, "infinite"},
		{"below 0", "n", 200, `{"n": -1}`, 0, "below 0"},
		{"NaN is no JSON", "n", 200, `{"n": NaN}`, 0, "not JSON"},
		{"garbage", "n", 200, "\x00\x01\x02", 0, "not JSON"},
		{"nothing", "n", 200, "", 0, "not JSON"},
		{"half an answer", "n", 200, `{"n": 5, `, 0, "not JSON"},
		{"deep nesting", "n", 200, strings.Repeat("[", 60_000), 0, "not JSON"},
		{"not found", "n", 404, `{"n": 5}`, 0, "404"},
		{"a fault", "n", 500, `{"n": 5}`, 0, "500"},
		{"too much", "n", 200, `{"n": 5, "pad": "` + strings.Repeat("x", 64<<10) + `"}`, 0, "more than 64 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := answers(t, c.status, c.body)
			value, err := client(t, metrics.Config{}).Replicas(t.Context(), []string{hostPort(server)}, "/load?full=1", c.field)
			want(t, value, err, c.value, c.says)
		})
	}
}

// cluster is replicas that say 10, 20, 30 ... and others that fail or hang.
func cluster(t *testing.T, good, bad, hanging int) []string {
	t.Helper()
	var list []string
	for n := range good {
		list = append(list, hostPort(answers(t, 200, fmt.Sprintf(`{"n": %d}`, 10*(n+1)))))
	}
	for range bad {
		list = append(list, hostPort(answers(t, 503, "")))
	}
	for range hanging {
		list = append(list, hostPort(hangs(t)))
	}
	return list
}

func TestSumOverReplicas(t *testing.T) {
	for _, c := range []struct {
		good, bad, hanging int
		value              float64
		says               string
	}{
		{0, 0, 0, 0, "no replica passes"},
		{1, 0, 0, 10, ""},
		{4, 0, 0, 100, ""},
		{3, 1, 0, 80, ""}, // 60 of three
		{2, 1, 1, 60, ""}, // 30 of two: half is enough
		{1, 1, 1, 0, "2 of 3 replicas"},
		{0, 2, 0, 0, "2 of 2 replicas"},
		{1, 0, 1, 20, ""},
	} {
		t.Run(fmt.Sprintf("%d say, %d fail, %d hang", c.good, c.bad, c.hanging), func(t *testing.T) {
			limit := time.Minute
			if c.hanging > 0 {
				limit = 2 * time.Second // which the others keep to on any machine
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			value, err := client(t, metrics.Config{}).Replicas(ctx, cluster(t, c.good, c.bad, c.hanging), "/load", "n")
			want(t, value, err, c.value, c.says)
		})
	}
}

func TestFewReplicasAreAskedAtOnce(t *testing.T) {
	var now, most atomic.Int64
	server := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			old := most.Load()
			if n <= old || most.CompareAndSwap(old, n) {
				break
			}
		}
		_, _ = w.Write([]byte(`{"n": 1}`))
	})
	list := make([]string, 1000)
	for i := range list {
		list[i] = hostPort(server)
	}
	value, err := client(t, metrics.Config{}).Replicas(t.Context(), list, "/load", "n")
	want(t, value, err, 1000, "")
	if most.Load() > 64 {
		t.Errorf("%d were asked at once", most.Load())
	}
}

func TestNoReplicaIsAtALinkLocalAddress(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"} {
		_, err := client(t, metrics.Config{}).Replicas(t.Context(), []string{host + ":" + strconv.Itoa(80)}, "/latest/meta-data", "n")
		want(t, 0, err, 0, "link-local")
	}
}
