// Echo is a server to measure with: its answers are as large and as slow as
// they are asked to be.
//
//	GET  /?sleep=100ms&bytes=1000      JSON, after a while, padded to a size
//	POST /                             the body, as it came
//	GET  /events?n=10&interval=10ms    server-sent events
//	GET  /healthz                      the health check
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds on what one request can ask for.
const (
	maxSleep  = time.Minute
	maxBytes  = 64 << 20
	maxEvents = 1_000_000
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	port := os.Getenv("PORT")
	if port == "" {
		return errors.New("set PORT to the port to listen on")
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	server := &http.Server{Addr: ":" + port, Handler: routes(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("listening on port %s", port)
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	// What has begun is finished; Nomad ends what takes too long.
	return server.Shutdown(context.Background())
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { send(w, []byte("ok\n")) })
	mux.HandleFunc("GET /events", events)
	mux.HandleFunc("POST /", echo)
	mux.HandleFunc("GET /{$}", answer)
	return mux
}

func answer(w http.ResponseWriter, r *http.Request) {
	pause, err := duration(r, "sleep", 0)
	if err != nil {
		refuse(w, err)
		return
	}
	size, err := number(r, "bytes", 0, maxBytes)
	if err != nil {
		refuse(w, err)
		return
	}
	if !wait(r.Context(), pause) {
		return
	}
	body := map[string]string{"replica": os.Getenv("SERVE_REPLICA"), "version": os.Getenv("SERVE_VERSION")}
	text, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// {"pad":"..."} as long as it takes to get to the size.
	if missing := size - len(text) - len(`,"pad":""`); missing >= 0 {
		body["pad"] = strings.Repeat("x", missing)
		if text, err = json.Marshal(body); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	send(w, text)
}

func echo(w http.ResponseWriter, r *http.Request) {
	pause, err := duration(r, "sleep", 0)
	if err != nil {
		refuse(w, err)
		return
	}
	if !wait(r.Context(), pause) {
		return
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := io.Copy(w, r.Body); err != nil {
		panic(http.ErrAbortHandler) // too late for a status: the client sees the connection break
	}
}

func events(w http.ResponseWriter, r *http.Request) {
	n, err := number(r, "n", 10, maxEvents)
	if err != nil {
		refuse(w, err)
		return
	}
	interval, err := duration(r, "interval", 10*time.Millisecond)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	for i := range n {
		if i > 0 && !wait(r.Context(), interval) {
			return
		}
		if _, err := fmt.Fprintf(w, "id: %d\ndata: {\"n\":%d}\n\n", i, i); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
	}
}

// duration reads a parameter such as "100ms".
func duration(r *http.Request, name string, absent time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxSleep {
		return 0, fmt.Errorf("%s is a duration from 0s to %s, such as 100ms", name, maxSleep)
	}
	return d, nil
}

func number(r *http.Request, name string, absent, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s is a number from 0 to %d", name, most)
	}
	return n, nil
}

// wait pauses, and says whether the client is still there.
func wait(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func refuse(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	text, err := json.Marshal(map[string]string{"error": err.Error()})
	if err == nil {
		send(w, text)
	}
}

// send writes an answer. That a client is gone is not this server's concern.
func send(w io.Writer, text []byte) {
	if _, err := w.Write(text); err != nil {
		return
	}
}
