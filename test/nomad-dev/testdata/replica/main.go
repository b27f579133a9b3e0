// Command replica is the program that end-to-end tests deploy: a server whose
// misbehaviour the tests choose by its environment and by the query.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if os.Getenv("CRASH") != "" {
		fmt.Fprintln(os.Stdout, "about to end")
		fmt.Fprintln(os.Stderr, "no such model: "+os.Getenv("CRASH"))
		os.Exit(3)
	}
	var ongoing, most atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		now := ongoing.Add(1)
		defer ongoing.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		if d, err := time.ParseDuration(r.URL.Query().Get("sleep")); err == nil {
			time.Sleep(d)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"replica": os.Getenv("SERVE_REPLICA"), "version": os.Getenv("VERSION"), "pid": os.Getpid(),
			"path": r.URL.Path, "most": most.Load(),
		})
	})
	server := &http.Server{Addr: ":" + os.Getenv("PORT"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		_ = server.Shutdown(context.Background())
	}()
	fmt.Println("serving on", os.Getenv("PORT"))
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	<-stopped
}
