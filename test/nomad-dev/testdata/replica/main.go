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
	if path := os.Getenv("CRASH_IF"); path != "" {
		if _, err := os.Stat(path); err == nil {
			fmt.Fprintln(os.Stderr, "there is "+path)
			os.Exit(3)
		}
	}
	var ongoing, most atomic.Int64
	mux := http.NewServeMux()
	started := time.Now()
	loads, _ := time.ParseDuration(os.Getenv("LOADS"))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if time.Since(started) < loads {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		now := ongoing.Add(1)
		defer ongoing.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		if d, err := time.ParseDuration(r.URL.Query().Get("sleep")); err == nil {
			time.Sleep(d)
		}
		if handle := os.Getenv("SERVE_HANDLE_" + r.URL.Query().Get("call")); handle != "" {
			if err := call(r.Context(), handle); err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"replica": os.Getenv("SERVE_REPLICA"), "version": os.Getenv("VERSION"), "pid": os.Getpid(),
			"path": r.URL.Path, "most": most.Load(), "started": started.UnixNano(),
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

// call asks another deployment for something.
func call(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
