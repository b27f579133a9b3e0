package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/loads"
)

// told keeps the reports that it gets.
type told struct {
	mu      sync.Mutex
	reports []loads.Report
}

func (s *told) SendLoads(_ context.Context, r loads.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
	return nil
}

func (s *told) all() []loads.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]loads.Report{}, s.reports...)
}

func TestHandOver(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	address := replicaServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-free
		}
	})
	sink := &told{}
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view(), func(c *Config) {
		c.Loads, c.Name = sink, "n1:80"
	})
	kept := dial(t, r.addr)
	br := bufio.NewReader(kept)
	ask := func(path string) *http.Response {
		t.Helper()
		fmt.Fprint(kept, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		return res
	}
	if res := ask("/app"); res.StatusCode != 200 || res.Close {
		t.Fatalf("before: %v", res)
	}
	slow := make(chan int, 1)
	go func() {
		res, _ := get(t, r.client, r.url+"/app/slow")
		slow <- res.StatusCode
	}()
	eventually(t, "it runs", func() bool { n, _ := r.load(); return n == 1 })

	quiet, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- r.HandOver(t.Context(), quiet) }()
	eventually(t, "it has begun", func() bool { return r.Status().Draining })
	// Another process has the port: whether that is well is not ours to say.
	if res := ask("/-/healthz"); res.StatusCode != 200 || !res.Close {
		t.Errorf("health: %d, close %v", res.StatusCode, res.Close)
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(quiet)
	close(free)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if status := <-slow; status != 200 {
		t.Errorf("what was under way: %d", status)
	}
	var names []string
	sequence := uint64(0)
	for _, report := range sink.all() {
		if len(names) == 0 || names[len(names)-1] != report.Proxy {
			names = append(names, report.Proxy)
			sequence = 0
		}
		if sequence++; report.Sequence != sequence {
			t.Errorf("report %d of %s has the number %d", sequence, report.Proxy, report.Sequence)
		}
		if report.Leaving && report.Proxy == "n1:80" {
			t.Errorf("%s leaves", report.Proxy)
		}
		if err := report.Check(); err != nil {
			t.Error(err)
		}
	}
	if len(names) != 2 || names[0] != "n1:80" || !strings.HasPrefix(names[1], "n1:80 (begun ") {
		t.Errorf("it reported as %q", names)
	}
	if all := sink.all(); !all[len(all)-1].Leaving {
		t.Error("it did not say goodbye")
	}
}

func TestDrainFinishesStreamsOfHTTP2(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, "first ")
		_ = http.NewResponseController(w).Flush()
		<-free
		_, _ = w.Write(body)
	})
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view())
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	res, err := client.Post(r.url+"/app", "text/plain", strings.NewReader("and last"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, len("first "))
	if _, err := io.ReadFull(res.Body, first); err != nil || res.ProtoMajor != 2 {
		t.Fatalf("%s: %v", res.Proto, err)
	}
	limit, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- r.Drain(limit) }()
	eventually(t, "no new connections", func() bool {
		other := &http.Transport{Protocols: protocols}
		defer other.CloseIdleConnections()
		again, err := (&http.Client{Transport: other}).Get(r.url + "/-/healthz")
		if err == nil {
			again.Body.Close()
		}
		return err != nil
	})
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(free)
	rest, err := io.ReadAll(res.Body)
	if err != nil || string(first)+string(rest) != "first and last" {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
