package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serve "github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// fakeLogs gives each replica the same log.
type fakeLogs struct {
	more chan string // with Follow: what comes after "three"; nil: nothing
}

func (f fakeLogs) Logs(ctx context.Context, req serve.LogRequest) (io.ReadCloser, error) {
	if strings.HasSuffix(req.Replica, "old") {
		return nil, serve.ErrNotFound
	}
	head := strings.NewReader("one\ntwo\nthree " + req.Stream + "\n")
	if !req.Follow {
		return io.NopCloser(head), nil
	}
	reader, writer := io.Pipe()
	go func() {
		for {
			select {
			case <-ctx.Done():
				_ = writer.Close()
				return
			case text := <-f.more:
				_, _ = io.WriteString(writer, text)
			}
		}
	}()
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(head, reader), reader}, nil
}

func TestLogs(t *testing.T) {
	more := make(chan string)
	i := start(t, func(c *serve.ServerConfig) { c.Logs = fakeLogs{more} })
	i.deployed(t, "search")
	ctx := t.Context()
	query := serve.LogQuery{Application: "search", Deployment: "web"}

	t.Run("the newest replica that has started is taken", func(t *testing.T) {
		log, err := i.client.Logs(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		text, err := io.ReadAll(log)
		if err != nil || log.Replica != "aaaa2222-new" || string(text) != "one\ntwo\nthree stdout\n" {
			t.Errorf("replica %s: %q, error %v", log.Replica, text, err)
		}
	})
	t.Run("the last lines alone", func(t *testing.T) {
		q := query
		q.Tail, q.Stream = 2, "stderr"
		log, err := i.client.Logs(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		if text, err := io.ReadAll(log); err != nil || string(text) != "two\nthree stderr\n" {
			t.Errorf("%q, error %v", text, err)
		}
	})
	t.Run("a log that is gone", func(t *testing.T) {
		q := query
		q.Replica = "aaaa1"
		_, err := i.client.Logs(ctx, q)
		if e := asError(t, err); e.StatusCode != 404 {
			t.Errorf("got %d %s", e.StatusCode, e.Message)
		}
	})
	t.Run("following goes on after the last lines", func(t *testing.T) {
		q := query
		q.Tail, q.Follow = 1, true
		log, err := i.client.Logs(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		lines := bufio.NewReader(log)
		if line, err := lines.ReadString('\n'); err != nil || line != "three stdout\n" {
			t.Fatalf("%q, error %v", line, err)
		}
		more <- "four\n"
		if line, err := lines.ReadString('\n'); err != nil || line != "four\n" {
			t.Errorf("%q, error %v", line, err)
		}
	})
}

func TestBlockingQueries(t *testing.T) {
	i := start(t)
	i.deployed(t, "search")
	ctx := t.Context()
	_, index, err := i.client.Application(ctx, "search", serve.Query{})
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		status reconcile.ApplicationStatus
		index  uint64
		err    error
	}
	ask := func(name string, q serve.Query) <-chan answer {
		answers := make(chan answer, 1)
		go func() {
			status, index, err := i.client.Application(ctx, name, q)
			answers <- answer{status, index, err}
		}()
		return answers
	}
	t.Run("an index from the past answers at once", func(t *testing.T) {
		if got := <-ask("search", serve.Query{Index: index - 1, Wait: time.Minute}); got.err != nil || got.index != index {
			t.Errorf("got index %d, error %v", got.index, got.err)
		}
	})
	t.Run("an index from the future answers at once", func(t *testing.T) {
		if got := <-ask("search", serve.Query{Index: index + 1000, Wait: time.Minute}); got.err != nil || got.index != index {
			t.Errorf("got index %d, error %v", got.index, got.err)
		}
	})
	t.Run("nothing new answers when the wait is over", func(t *testing.T) {
		if got := <-ask("search", serve.Query{Index: index, Wait: 20 * time.Millisecond}); got.err != nil || got.index != index {
			t.Errorf("got index %d, error %v", got.index, got.err)
		}
	})
	t.Run("a change of something else does not wake it, its own does", func(t *testing.T) {
		answers := ask("search", serve.Query{Index: index, Wait: time.Minute})
		i.awaitWaiter(t)
		i.update(func(*serve.View) {})
		i.awaitWaiter(t)
		select {
		case got := <-answers:
			t.Fatalf("woken for nothing: %+v", got)
		default:
		}
		if _, err := i.client.Scale(ctx, "search", "web", serve.ScaleRequest{Replicas: 5}); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-answers:
			if got.err != nil || got.status.Deployments[0].Target != 5 {
				t.Errorf("got %+v", got)
			}
		case <-time.After(10 * time.Second):
			t.Error("not woken")
		}
	})
	t.Run("a server that no longer leads says so", func(t *testing.T) {
		_, index, err := i.client.Application(ctx, "search", serve.Query{})
		if err != nil {
			t.Fatal(err)
		}
		answers := make(chan string, 1)
		go func() {
			_, text := i.ask(t, "GET", "/v1/applications/search?wait=1m&index="+itoa(index), "")
			answers <- text
		}()
		i.awaitWaiter(t)
		i.setLeads(false)
		defer i.setLeads(true)
		if text := <-answers; !strings.Contains(text, "no_leader") {
			t.Errorf("got %s", text)
		}
	})
}

func itoa(n uint64) string {
	data, _ := json.Marshal(n)
	return string(data)
}

func TestTooManyWatchers(t *testing.T) {
	i := start(t, func(c *serve.ServerConfig) { c.MaxWatches = 1; c.Heartbeat = 10 * time.Millisecond })
	r, err := http.NewRequestWithContext(t.Context(), "GET", i.http.URL+"/v1/event/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := i.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, text := i.ask(t, "GET", "/v1/event/stream", ""); got.StatusCode != 429 {
		t.Errorf("got %d %s", got.StatusCode, text)
	}
}

func TestEventStream(t *testing.T) {
	i := start(t, func(c *serve.ServerConfig) { c.Heartbeat = 20 * time.Millisecond })
	i.deployed(t, "search")
	r, err := http.NewRequestWithContext(t.Context(), "GET", i.http.URL+"/v1/event/stream?index=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := i.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	heartbeats := 0
	next := func() serve.EventBatch {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == "{}" {
				heartbeats++
				continue
			}
			var batch serve.EventBatch
			if err := json.Unmarshal(lines.Bytes(), &batch); err != nil {
				t.Fatal(err)
			}
			return batch
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return serve.EventBatch{}
	}
	if first := next(); len(first.Events) != 1 || first.Events[0].Type != "deployed" || first.Index == 0 {
		t.Errorf("first line: %+v", first)
	}
	for heartbeats == 0 && lines.Scan() {
		if lines.Text() == "{}" {
			heartbeats++
		}
	}
	i.update(func(v *serve.View) {
		v.Seen = []raftstate.Event{{Index: v.Index + 1, At: time.Now(), Type: "replica-failed", Application: "search", Message: "exit 1"}}
	})
	if seen := next(); len(seen.Events) != 1 || seen.Events[0].Type != "replica-failed" {
		t.Errorf("an observation: %+v", seen)
	}
	if _, err := i.client.Scale(t.Context(), "search", "web", serve.ScaleRequest{Replicas: 4}); err != nil {
		t.Fatal(err)
	}
	if decided := next(); len(decided.Events) != 1 || decided.Events[0].Type != "scaled" {
		t.Errorf("a decision: %+v", decided)
	}
	i.setLeads(false)
	for lines.Scan() {
		if lines.Text() != "{}" {
			t.Errorf("after the leadership was lost: %s", lines.Text())
		}
	}
}

func TestFollowEventsSurvivesABrokenStream(t *testing.T) {
	i := start(t, func(c *serve.ServerConfig) { c.Heartbeat = 20 * time.Millisecond })
	i.deployed(t, "search")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	kinds := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- i.client.FollowEvents(ctx, "search", func(e raftstate.Event) error {
			kinds <- e.Type
			return nil
		})
	}()
	got := []string{<-kinds}
	i.http.CloseClientConnections()
	if _, err := i.client.Scale(ctx, "search", "web", serve.ScaleRequest{Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	got = append(got, <-kinds)
	if d := cmp.Diff([]string{"deployed", "scaled"}, got); d != "" {
		t.Error(d)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestClientSendsAWriteAgainUntilALeaderIsThere(t *testing.T) {
	i := start(t)
	failures := []error{serve.ErrNoLeader, errors.New("leadership lost")}
	i.propose = func(raftstate.Command) error {
		if len(failures) == 0 {
			return nil
		}
		err := failures[0]
		failures = failures[1:]
		return err
	}
	answer, err := i.client.Deploy(t.Context(), serve.DeployRequest{Applications: []*appspec.Application{spec("search")}})
	if err != nil || answer.Applications[0].Version != 1 {
		t.Fatalf("got %+v, error %v", answer, err)
	}
	if len(i.proposed) != 3 || i.proposed[0].ID != i.proposed[2].ID {
		t.Errorf("%d proposals; they must have one id", len(i.proposed))
	}
}

func TestClientErrors(t *testing.T) {
	t.Run("nobody there", func(t *testing.T) {
		client, err := serve.NewClient(serve.ClientConfig{Address: "127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Self(t.Context())
		if _, ok := errors.AsType[*serve.ConnectError](err); !ok {
			t.Fatalf("got %v", err)
		}
		for _, part := range []string{"http://127.0.0.1:1", "refused", "-address", "SERVE_NOMAD_ADDR"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	})
	t.Run("somebody else there", func(t *testing.T) {
		for _, status := range []int{200, 404} {
			client, err := serve.NewClient(serve.ClientConfig{HTTPClient: &http.Client{
				Transport: roundTrip(func(*http.Request) (*http.Response, error) {
					return &http.Response{
						StatusCode: status, Status: "status", Header: http.Header{},
						Body: io.NopCloser(strings.NewReader("<html>hello</html>")),
					}, nil
				}),
			}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Self(t.Context())
			if err == nil || !strings.Contains(err.Error(), "not serve-nomad's") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("an address that is none", func(t *testing.T) {
		for _, address := range []string{"ftp://x", "http://", "http://a b"} {
			if _, err := serve.NewClient(serve.ClientConfig{Address: address}); err == nil {
				t.Errorf("%q was taken", address)
			}
		}
	})
}
