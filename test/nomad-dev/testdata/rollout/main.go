// Command rollout is the program whose versions the tests of rollouts deploy. It
// says of each answer which versions gave it, keeps a journal of the requests
// that reached it, and misbehaves as its environment says:
//
//	VERSION      what it says it is
//	JOURNAL      folder in which it notes each request's X-Load-Id, and when it came
//	WORK         how long an answer takes: 5ms
//	START        how long it takes until it can serve: 0s
//	FAULT        crash: ends at once; crash-first: after the first request;
//	             errors: answers every tenth with 500; slow: takes ten times
//	             WORK; unhealthy: never passes its health check
//	CRASH_AFTER  how long it lives: for ever
//	TOKEN        that requests must carry, and that it sends to what it calls
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// replica is this process.
type replica struct {
	version, fault string
	work, start    time.Duration
	handles        []string // base URLs of what it calls
	client         *http.Client
	started        time.Time
	config         atomic.Pointer[config]
	requests       atomic.Int64

	mu      sync.Mutex
	journal io.Writer
}

// config is its user_config.
type config struct {
	Price int `json:"price"`
}

func main() {
	r := &replica{version: os.Getenv("VERSION"), fault: os.Getenv("FAULT"), started: time.Now()}
	if r.fault == "crash" {
		fmt.Fprintln(os.Stderr, "this version crashes")
		os.Exit(3)
	}
	r.work, r.start = duration("WORK", 5*time.Millisecond), duration("START", 0)
	if r.fault == "slow" {
		r.work *= 10
	}
	if lives := duration("CRASH_AFTER", 0); lives > 0 {
		time.AfterFunc(lives, func() { os.Exit(3) })
	}
	for _, kv := range os.Environ() {
		if name, url, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SERVE_HANDLE_") {
			r.handles = append(r.handles, url)
		}
	}
	slices.Sort(r.handles)
	r.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	r.openJournal()
	if err := r.readConfig(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := r.serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func duration(name string, standard time.Duration) time.Duration {
	d, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		return standard
	}
	return d
}

func (r *replica) openJournal() {
	r.journal = io.Discard
	dir := os.Getenv("JOURNAL")
	if dir == "" {
		return
	}
	name := fmt.Sprintf("%s_%s_%d", os.Getenv("SERVE_DEPLOYMENT"), r.version, os.Getpid())
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r.journal = file
}

// readConfig reads the file that SERVE_USER_CONFIG names.
func (r *replica) readConfig() error {
	c := &config{}
	if path := os.Getenv("SERVE_USER_CONFIG"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err = json.Unmarshal(text, c); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	r.config.Store(c)
	return nil
}

func (r *replica) serve() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if r.fault == "unhealthy" || time.Since(r.started) < r.start {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/reconfigure", r.reconfigure)
	mux.HandleFunc("/stream", authorised(r.stream))
	mux.HandleFunc("/", authorised(r.answer))
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for s := range signals {
			if s == syscall.SIGTERM {
				break
			}
			if err := r.readConfig(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	<-stopped
	return nil
}

// authorised answers requests without the token, if there is one, with 401.
func authorised(next http.HandlerFunc) http.HandlerFunc {
	token := os.Getenv("TOKEN")
	return func(w http.ResponseWriter, req *http.Request) {
		if token != "" && req.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		next(w, req)
	}
}

// reconfigure takes another user_config.
func (r *replica) reconfigure(w http.ResponseWriter, req *http.Request) {
	c := &config{}
	if err := json.NewDecoder(req.Body).Decode(c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.config.Store(c)
}

// note writes a request into the journal, and returns its id.
func (r *replica) note(req *http.Request) string {
	id := req.Header.Get("X-Load-Id")
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintln(r.journal, id, time.Now().UnixNano())
	return id
}

// answer answers with the versions that made the answer.
func (r *replica) answer(w http.ResponseWriter, req *http.Request) {
	id := r.note(req)
	n := r.requests.Add(1)
	w.Header().Set("X-Version", r.version)
	if r.fault == "errors" && n%10 == 0 {
		http.Error(w, "this version fails", http.StatusInternalServerError)
		return
	}
	time.Sleep(r.work)
	versions, err := r.ask(req.Context(), id)
	if err != nil {
		w.Header().Set("X-Handle-Failed", "true")
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	body, _ := json.Marshal(map[string]any{
		"id": id, "versions": versions, "price": r.config.Load().Price, "replica": os.Getenv("SERVE_REPLICA"), "pid": os.Getpid(),
	})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	if r.fault == "crash-first" {
		_ = http.NewResponseController(w).Flush()
		os.Exit(3)
	}
}

// stream sends a numbered line at a time, and at the end once more asks those
// that it calls: they must still be there.
func (r *replica) stream(w http.ResponseWriter, req *http.Request) {
	id := r.note(req)
	lasts, _ := time.ParseDuration(req.URL.Query().Get("for"))
	every, err := time.ParseDuration(req.URL.Query().Get("every"))
	if err != nil || every <= 0 {
		http.Error(w, "every what", http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Version", r.version)
	tick := time.NewTicker(every)
	defer tick.Stop()
	out := http.NewResponseController(w)
	for i := range int(lasts / every) {
		fmt.Fprintln(w, i)
		_ = out.Flush()
		select {
		case <-tick.C:
		case <-req.Context().Done():
			return
		}
	}
	versions, err := r.ask(req.Context(), id)
	if err != nil {
		fmt.Fprintln(w, "failed", err)
		return
	}
	fmt.Fprintln(w, "end", versions)
}

// ask returns this replica's version and those of what it calls, one word each.
func (r *replica) ask(ctx context.Context, id string) (string, error) {
	versions := []string{cmp.Or(r.version, "none")}
	for _, url := range r.handles {
		got, err := r.call(ctx, url, id)
		if err != nil {
			return "", err
		}
		versions = append(versions, got)
	}
	return strings.Join(versions, " "), nil
}

// call asks another deployment for its versions.
func (r *replica) call(ctx context.Context, url, id string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Load-Id", id)
	if token := os.Getenv("TOKEN"); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s %s", url, resp.Status, resp.Header.Get("X-Serve-Error"), body)
	}
	var said struct{ Versions string }
	if err = json.Unmarshal(body, &said); err != nil {
		return "", fmt.Errorf("%s: %w: %q", url, err, body)
	}
	return said.Versions, nil
}
