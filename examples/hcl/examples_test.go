package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// python is the interpreter that the examples ask for. They need nothing else.
const python = "python3"

// program is a replica's program that runs, as Nomad would run it.
type program struct {
	t    *testing.T
	url  string
	cmd  *exec.Cmd
	log  *output
	done chan struct{} // closed when it has ended
	err  error         // how, once done
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns what has been written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a command and waits until its health check passes.
func start(t *testing.T, env []string, command ...string) *program {
	t.Helper()
	p := launch(t, env, command...)
	p.until(t, "it is healthy", func() bool {
		status, _, err := p.get("/healthz")
		return err == nil && status == http.StatusOK
	})
	return p
}

// launch runs a command on a free port until the test ends.
func launch(t *testing.T, env []string, command ...string) *program {
	t.Helper()
	port := freePort(t)
	p := &program{t: t, url: "http://127.0.0.1:" + port, log: &output{}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), command[0], command[1:]...)
	p.cmd.Env = append(os.Environ(), "PORT="+port, "SERVE_REPLICA=replica-1", "SERVE_VERSION=0badcafe", "PYTHONDONTWRITEBYTECODE=1")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%v said:\n%s", command, p.log)
		}
	})
	return p
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// until polls a condition until it holds.
func (p *program) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not within two minutes: %s", what)
		case <-p.done:
			if !holds() { // its end may be what brings it about
				t.Fatalf("it ended (%v) before %s", p.err, what)
			}
			return
		case <-ticker.C:
		}
	}
}

func (p *program) get(path string) (int, map[string]any, error) {
	return p.send(http.MethodGet, path, "", nil)
}

func (p *program) send(method, path, body string, header map[string]string) (int, map[string]any, error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(p.t.Context()), method, p.url+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, err
	}
	value := map[string]any{}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(text, &value); err != nil {
			return 0, nil, fmt.Errorf("answer %q: %w", text, err)
		}
	}
	if id := response.Header.Get("X-Request-Id"); id != "" {
		value["header_request_id"] = id
	}
	return response.StatusCode, value, nil
}

// answers checks the status of an answer, and that it says what is wrong.
func (p *program) answers(t *testing.T, path string, status int, says string) {
	t.Helper()
	got, value, err := p.get(path)
	if err != nil || got != status || !strings.Contains(fmt.Sprint(value["error"]), says) {
		t.Errorf("GET %s: status %d, %v, %v; want status %d and %q", path, got, value, err, status, says)
	}
}

// stopsGracefully sends a request, and SIGTERM once that is under way; lets go
// of the request when no connection is taken any more; and sees that it is
// answered and that the program then ends well.
func (p *program) stopsGracefully(t *testing.T, path string, underWay, letGo func()) {
	t.Helper()
	type result struct {
		status int
		err    error
	}
	answered := make(chan result, 1)
	go func() {
		status, _, err := p.get(path)
		answered <- result{status, err}
	}()
	underWay()
	p.terminate(t)
	letGo()
	if got := <-answered; got.err != nil || got.status != http.StatusOK {
		t.Errorf("the request under way: status %d, %v", got.status, got.err)
	}
	p.endsWell(t)
}

// terminate sends SIGTERM and waits until no connection is taken any more.
func (p *program) terminate(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.until(t, "it takes no connection any more", func() bool {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func (p *program) endsWell(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("ended with %v", p.err)
		}
	case <-time.After(10 * time.Second):
		t.Error("still runs 10 s after its last answer")
	}
}

func TestPythonUnits(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), python, "-m", "unittest", "discover", "-s", "search")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestSpecs(t *testing.T) {
	paths, err := filepath.Glob("*.hcl")
	if err != nil || len(paths) < 3 {
		t.Fatalf("files %v, error %v", paths, err)
	}
	for _, path := range paths {
		t.Run(path+" is valid, and says how to try it", func(t *testing.T) {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(body), "\n\n")
			for _, want := range []string{"\n# run: serve-nomad dev examples/hcl/" + path, "\n# try: curl "} {
				if !strings.Contains(head, want) || !strings.HasPrefix(head, "# ") {
					t.Errorf("the comment at the top lacks %q", want)
				}
			}
			file, diags := appspec.Parse(appspec.Source{Files: []appspec.SourceFile{{Name: path, Body: body}}, FS: os.DirFS(".")})
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, app := range file.Applications {
				if "/"+app.Name != app.RoutePrefix || app.Name+".hcl" != path {
					t.Errorf("application %s at %s in %s", app.Name, app.RoutePrefix, path)
				}
			}
		})
	}
}

func TestHello(t *testing.T) {
	t.Run("greets, and says who it is", func(t *testing.T) {
		p := start(t, []string{"GREET=Nomad"}, python, "hello/hello.py")
		status, value, err := p.get("/")
		if err != nil || status != http.StatusOK || value["message"] != "hello Nomad" || value["replica"] != "replica-1" || value["version"] != "0badcafe" {
			t.Errorf("status %d, %v, %v", status, value, err)
		}
		p.answers(t, "/nothing", 404, "/nothing")
		p.answers(t, "/?sleep=x", 400, "number of seconds")
		p.answers(t, "/?sleep=-1", 400, "number of seconds")
		p.answers(t, "/?sleep=nan", 400, "number of seconds")
	})
	t.Run("answers many requests on one connection", func(t *testing.T) {
		p := start(t, nil, python, "hello/hello.py")
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for range 3 {
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			answer := make([]byte, 4096)
			n, err := conn.Read(answer)
			if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 ") || !strings.Contains(string(answer[:n]), "Content-Length: ") {
				t.Errorf("%q, %v", answer[:n], err)
			}
		}
	})
	t.Run("finishes what it has begun", func(t *testing.T) {
		p := start(t, nil, python, "hello/hello.py")
		underWay := func() {
			p.until(t, "the request is under way", func() bool {
				_, value, err := p.get("/healthz")
				return err == nil && fmt.Sprint(value["ongoing"]) == "2"
			})
		}
		p.stopsGracefully(t, "/?sleep=2", underWay, func() {})
	})
	t.Run("does not start without a port", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), python, "hello/hello.py")
		cmd.Env = append(os.Environ(), "PORT=")
		if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), "set PORT") {
			t.Errorf("%v: %s", err, said)
		}
	})
}

// startGreeter runs the program of rollouts.hcl, with another's share of answers
// that fail.
func startGreeter(t *testing.T, failing string) *program {
	t.Helper()
	return start(t, []string{"PYTHONPATH=hello", "RELEASE=2", "ERRORS=" + failing, "SERVE_USER_CONFIG=" + userConfig(t, `{"greeting":"hello"}`)},
		python, "rollouts/greeter.py")
}

func userConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "user_config.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRollouts(t *testing.T) {
	t.Run("takes another user_config while it runs, and keeps what it has when that is none", func(t *testing.T) {
		p := startGreeter(t, "0")
		leader := map[string]string{"Serve-Config-Hash": "0123abcd"}
		greets := func(want string) {
			t.Helper()
			status, value, err := p.get("/?a=b")
			if err != nil || status != http.StatusOK || value["message"] != want || value["release"] != "2" || value["version"] != "0badcafe" {
				t.Errorf("status %d, %v, %v", status, value, err)
			}
		}
		greets("hello")
		for _, bad := range []string{"", "{", "[]", "{}", `{"greeting":""}`, `{"greeting":1}`, `{"greeting":"a","b":1}`, strings.Repeat("[", 20_000)} {
			if status, value, err := p.send(http.MethodPost, "/reconfigure", bad, leader); err != nil || status != http.StatusBadRequest || value["error"] == nil {
				t.Errorf("%.20q: status %d, %v, %v", bad, status, value, err)
			}
		}
		greets("hello")
		if status, value, err := p.send(http.MethodPost, "/reconfigure", `{"greeting":"hi"}`, leader); err != nil || status != http.StatusOK {
			t.Errorf("status %d, %v, %v", status, value, err)
		}
		greets("hi")
		for path, header := range map[string]map[string]string{"/": leader, "/reconfigure": nil} {
			if status, _, err := p.send(http.MethodPost, path, `{"greeting":"no"}`, header); err != nil || status != http.StatusNotFound {
				t.Errorf("%s: status %d, %v", path, status, err)
			}
		}
		greets("hi")
		for _, length := range []string{"Content-Length: 99999", "Content-Length: -1", "A: b"} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(conn, "POST /reconfigure HTTP/1.1\r\nHost: a\r\n"+length+"\r\n\r\n")
			answer, readErr := io.ReadAll(conn)
			if err := errors.Join(err, readErr, conn.Close()); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
				t.Errorf("%s: %q, %v", length, answer, err)
			}
		}
		greets("hi")
		p.terminate(t)
		p.endsWell(t)
	})
	t.Run("fails as often as it is told", func(t *testing.T) {
		p := startGreeter(t, "0.2")
		failed := 0
		for range 100 {
			status, _, err := p.get("/")
			if err != nil || (status != http.StatusOK && status != http.StatusInternalServerError) {
				t.Fatalf("status %d, %v", status, err)
			}
			if status == http.StatusInternalServerError {
				failed++
			}
		}
		if failed != 20 {
			t.Errorf("%d of 100 failed", failed)
		}
	})
	for name, c := range map[string]struct{ port, errors, config, says string }{
		"a port":                 {"", "0", `{"greeting":"a"}`, "set PORT"},
		"a share of errors":      {freePort(t), "2", `{"greeting":"a"}`, "from 0 to 1"},
		"a share that is one":    {freePort(t), "nan", `{"greeting":"a"}`, "from 0 to 1"},
		"a config that it knows": {freePort(t), "0", `{"greetings":"a"}`, "one setting, greeting"},
	} {
		t.Run("does not start without "+name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), python, "rollouts/greeter.py")
			cmd.Env = append(os.Environ(), "PYTHONPATH=hello", "PYTHONDONTWRITEBYTECODE=1", "PORT="+c.port, "ERRORS="+c.errors, "SERVE_USER_CONFIG="+userConfig(t, c.config))
			if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), c.says) {
				t.Errorf("%v: %s", err, said)
			}
		})
	}
}

// startSearch runs the three programs, joined by their handles.
func startSearch(t *testing.T) (pipeline, embedder, ranker *program) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "user_config.json")
	if err := os.WriteFile(config, []byte(`{"bm25_weight":0.6}`), 0o600); err != nil {
		t.Fatal(err)
	}
	embedder = start(t, nil, python, "search/embedder.py")
	ranker = start(t, []string{"SERVE_USER_CONFIG=" + config}, python, "search/ranker.py")
	pipeline = start(t, handles(embedder.url, ranker.url), python, "search/pipeline.py")
	return pipeline, embedder, ranker
}

func handles(embedder, ranker string) []string {
	return []string{"SERVE_HANDLE_EMBEDDER=" + embedder, "SERVE_HANDLE_RANKER=" + ranker}
}

func TestSearch(t *testing.T) {
	pipeline, embedder, ranker := startSearch(t)
	t.Run("answers ranked results, the same each time", func(t *testing.T) {
		for query, title := range map[string]string{
			"how+do+stars+die":       "How stars die",
			"what%20is%20a%20b-tree": "B-trees",
			"GPU batching":           "Batching on a GPU",
		} {
			query = strings.ReplaceAll(query, " ", "+")
			var first []byte
			for range 2 {
				status, value, err := pipeline.get("/?q=" + query)
				results, _ := value["results"].([]any)
				if err != nil || status != http.StatusOK || len(results) != 5 {
					t.Fatalf("%s: status %d, %v, %v", query, status, value, err)
				}
				best := results[0].(map[string]any)
				for _, field := range []string{"id", "title", "score", "snippet"} {
					if best[field] == nil || best[field] == "" {
						t.Errorf("%s: %v has no %s", query, best, field)
					}
				}
				if best["title"] != title {
					t.Errorf("%s: found %v, want %q", query, best, title)
				}
				text, err := json.Marshal(results)
				if err != nil {
					t.Fatal(err)
				}
				if first != nil && !bytes.Equal(first, text) {
					t.Errorf("%s: first %s, then %s", query, first, text)
				}
				first = text
			}
		}
	})
	t.Run("answers as many results as are asked for, and none for nonsense", func(t *testing.T) {
		_, value, err := pipeline.get("/?q=water&n=2")
		if results, _ := value["results"].([]any); err != nil || len(results) != 2 {
			t.Errorf("%v, %v", value, err)
		}
		status, value, err := pipeline.get("/?q=xyzzy")
		if results, ok := value["results"].([]any); err != nil || status != http.StatusOK || !ok || len(results) != 0 {
			t.Errorf("status %d, %v, %v", status, value, err)
		}
	})
	t.Run("passes the request's id on", func(t *testing.T) {
		_, value, err := pipeline.send(http.MethodGet, "/?q=bees", "", map[string]string{"X-Request-Id": "abc-1"})
		if err != nil || value["request_id"] != "abc-1" || value["header_request_id"] != "abc-1" {
			t.Errorf("%v, %v", value, err)
		}
	})
	t.Run("refuses bad input with what would be right", func(t *testing.T) {
		pipeline.answers(t, "/", 400, "/search?q=")
		pipeline.answers(t, "/?q=", 400, "/search?q=")
		pipeline.answers(t, "/?q=%20%20", 400, "/search?q=")
		pipeline.answers(t, "/?q="+strings.Repeat("a", 501), 400, "at most 500")
		pipeline.answers(t, "/?q=a&n=0", 400, "from 1 to 20")
		pipeline.answers(t, "/?q=a&n="+strings.Repeat("9", 5000), 400, "from 1 to 20")
		pipeline.answers(t, "/other", 404, "/other")
		embedder.answers(t, "/nearest", 405, "GET is not for")
		for _, body := range []string{"", "{", "[]", `{"query":1}`, `{"query":"a","n":true}`, strings.Repeat("[", 100000)} {
			if status, _, err := embedder.send(http.MethodPost, "/nearest", body, nil); err != nil || status != 400 {
				t.Errorf("embedder, %.20q: status %d, %v", body, status, err)
			}
			if status, _, err := ranker.send(http.MethodPost, "/rank", body, nil); err != nil || status != 400 {
				t.Errorf("ranker, %.20q: status %d, %v", body, status, err)
			}
		}
		if status, _, err := ranker.send(http.MethodPost, "/rank", strings.Repeat("x", 2<<20), nil); err == nil && status != 413 {
			t.Errorf("a large body: status %d", status)
		}
	})
	t.Run("the embedder and the ranker end well", func(t *testing.T) {
		for _, p := range []*program{embedder, ranker} {
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.endsWell(t)
		}
		pipeline.answers(t, "/?q=bees", 503, "embedder cannot be reached")
	})
}

// deployment is a fake of another deployment behind a handle: it answers what
// the test says.
func deployment(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: answer, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String() + "/search/embedder/"
}

func TestPipelineWithFailingDeployments(t *testing.T) {
	tests := map[string]struct {
		answer http.HandlerFunc
		status int
		says   string
	}{
		"503 stays 503":            {says(503, `{"error":"the queue is full"}`), 503, "embedder is not available: the queue is full"},
		"500 becomes 502":          {says(500, "oh no"), 502, "embedder answered 500: oh no"},
		"no JSON becomes 502":      {says(200, "<html>"), 502, "did not answer JSON"},
		"other JSON becomes 502":   {says(200, `{"candidates":1}`), 502, "without candidates"},
		"an odd list becomes 502":  {says(200, `{"candidates":[1]}`), 502, "ranker answered 400"},
		"a cut answer becomes 503": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 503, "embedder cannot be reached"},
	}
	ranker := start(t, nil, python, "search/ranker.py")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 1)
			embedder := deployment(t, func(w http.ResponseWriter, r *http.Request) {
				asked <- r.URL.Path + " " + r.Header.Get("X-Request-Id")
				tt.answer(w, r)
			})
			p := start(t, handles(embedder, ranker.url), python, "search/pipeline.py")
			p.answers(t, "/?q=bees", tt.status, tt.says)
			path, id, _ := strings.Cut(<-asked, " ")
			if path != "/search/embedder/nearest" || id == "" {
				t.Errorf("asked %q with id %q", path, id)
			}
		})
	}
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestPipelineFinishesWhatItHasBegun(t *testing.T) {
	begun, letGo := make(chan struct{}), make(chan struct{})
	embedder := deployment(t, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-letGo
		says(200, `{"candidates":[]}`)(w, r)
	})
	p := start(t, handles(embedder, embedder), python, "search/pipeline.py")
	p.stopsGracefully(t, "/?q=bees", func() { <-begun }, func() { close(letGo) })
}

func TestRankerRefusesABadUserConfig(t *testing.T) {
	config := filepath.Join(t.TempDir(), "user_config.json")
	if err := os.WriteFile(config, []byte(`{"bm25_weight":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "search/ranker.py")
	cmd.Env = append(os.Environ(), "PORT="+freePort(t), "SERVE_USER_CONFIG="+config)
	if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), "bm25_weight") {
		t.Errorf("%v: %s", err, said)
	}
}

func TestEcho(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"main.go", "start.sh"} {
		body, err := os.ReadFile(filepath.Join("echo", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, []string{"NOMAD_TASK_DIR=" + folder}, "/bin/sh", filepath.Join(folder, "start.sh"))
	t.Run("answers at the size that is asked for", func(t *testing.T) {
		for _, size := range []int{0, 100, 1000, 1 << 20} {
			status, value, err := p.get(fmt.Sprintf("/?sleep=1ms&bytes=%d", size))
			text, marshalErr := json.Marshal(value)
			if err = errors.Join(err, marshalErr); err != nil || status != 200 || value["replica"] != "replica-1" || (size > 0 && len(text) != size) {
				t.Errorf("%d bytes: status %d, %d bytes, %v", size, status, len(text), err)
			}
		}
	})
	t.Run("refuses what is out of bounds", func(t *testing.T) {
		p.answers(t, "/?sleep=1h", 400, "duration")
		p.answers(t, "/?bytes=-1", 400, "number")
		p.answers(t, "/?bytes=99999999999999999999", 400, "number")
		p.answers(t, "/events?n=x", 400, "number")
	})
	t.Run("sends a body back as it came", func(t *testing.T) {
		status, value, err := p.send(http.MethodPost, "/", `{"a":1}`, map[string]string{"Content-Type": "application/json"})
		if err != nil || status != 200 || fmt.Sprint(value["a"]) != "1" {
			t.Errorf("status %d, %v, %v", status, value, err)
		}
	})
	t.Run("sends events", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/events?n=3&interval=5ms", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		want := "id: 0\ndata: {\"n\":0}\n\nid: 1\ndata: {\"n\":1}\n\nid: 2\ndata: {\"n\":2}\n\n"
		if err != nil || string(text) != want || response.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("sends the frames of a WebSocket back, and closes it when it stops", func(t *testing.T) {
		p.answers(t, "/socket", http.StatusUpgradeRequired, "")
		p := start(t, []string{"NOMAD_TASK_DIR=" + folder}, "/bin/sh", filepath.Join(folder, "start.sh"))
		c, head := dialSocket(t, p.url)
		// The answer to RFC 6455's own key.
		if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
			t.Fatalf("got %q", head)
		}
		for _, f := range []struct {
			first, back byte
			size        int
		}{{0x81, 0x81, 5}, {0x02, 0x02, 200}, {0x80, 0x80, 0}, {0x82, 0x82, 70_000}, {0x89, 0x8a, 4}, {0x82, 0x82, 1 << 20}} {
			payload := bytes.Repeat([]byte("ab"), f.size/2)
			if first, got := c.exchange(t, f.first, payload); first != f.back || !bytes.Equal(got, payload) {
				t.Errorf("of %x with %d bytes: %x with %d", f.first, f.size, first, len(got))
			}
		}
		p.terminate(t)
		if first, why := c.read(t); first != 0x88 || !bytes.Equal(why, []byte{0x03, 0xe9}) { // 1001: going away
			t.Errorf("at the end: %x, %x", first, why)
		}
		p.endsWell(t)
	})
	t.Run("finishes what it has begun", func(t *testing.T) {
		p := start(t, []string{"NOMAD_TASK_DIR=" + folder}, "/bin/sh", filepath.Join(folder, "start.sh"))
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, p.url+"/events?n=20&interval=100ms", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		p.terminate(t)
		text, err := io.ReadAll(response.Body)
		if n := strings.Count(string(text), "data: "); err != nil || n != 20 {
			t.Errorf("%d events, %v", n, err)
		}
		p.endsWell(t)
	})
}

// TestGRPC runs the gRPC example, which answers no HTTP/1.1.
func TestGRPC(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"main.go", "go.mod", "go.sum", "start.sh"} {
		body, err := os.ReadFile(filepath.Join("grpc", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := launch(t, []string{"NOMAD_TASK_DIR=" + folder}, "/bin/sh", filepath.Join(folder, "start.sh"))
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(p.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	p.until(t, "its health service says SERVING", func() bool {
		out, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err == nil && out.GetStatus() == healthpb.HealthCheckResponse_SERVING
	})
	t.Run("greets, and says who it is", func(t *testing.T) {
		out := new(wrapperspb.StringValue)
		if err := conn.Invoke(t.Context(), "/greeter.v1.Greeter/Greet", wrapperspb.String("Nomad"), out); err != nil || out.GetValue() != "hello Nomad, this is replica replica-1" {
			t.Errorf("%v, %v", out, err)
		}
		err := conn.Invoke(t.Context(), "/greeter.v1.Greeter/Greet", wrapperspb.String(strings.Repeat("a", 101)), out)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("a long name: %v", err)
		}
	})
	t.Run("counts, and finishes what it has begun", func(t *testing.T) {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/greeter.v1.Greeter/Count")
		if err == nil {
			err = errors.Join(stream.SendMsg(wrapperspb.UInt32(10)), stream.CloseSend())
		}
		if err != nil {
			t.Fatal(err)
		}
		for want := range uint32(10) {
			out := new(wrapperspb.UInt32Value)
			if err := stream.RecvMsg(out); err != nil || out.GetValue() != want+1 {
				t.Fatalf("%v, %v, want %d", out, err, want+1)
			}
			if want == 0 {
				p.terminate(t)
			}
		}
		if err := stream.RecvMsg(new(wrapperspb.UInt32Value)); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		p.endsWell(t)
	})
}
