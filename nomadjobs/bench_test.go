package nomadjobs

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
)

// BenchmarkObserveNodes looks at 1,000 nodes and 10,000 allocations, half of
// them ours, as a leader does that knows the nodes already. What Nomad itself
// takes for its answers is not in it; that they are compressed is.
func BenchmarkObserveNodes(b *testing.B) {
	const nodes, each = 1000, 10
	f := &fakeNomad{t: b, jobs: map[string]*api.Job{}, queued: map[string]int{}, calls: map[string]int{}}
	f.ground.init()
	f.put("c1", 7)
	for n := range nodes {
		id := fmt.Sprintf("node-%04d", n)
		f.addNode(id)
		for a := range each {
			f.addHeld(rankerID, id, a)
			if a%2 == 0 {
				f.addReplica(rankerID, id, a)
			}
		}
	}
	server := httptest.NewServer(&recorder{next: f, answers: map[string][]byte{}})
	defer server.Close()
	c, err := New(Config{Address: server.URL}, nil)
	if err != nil {
		b.Fatal(err)
	}
	look := func() {
		seen, err := c.Observe(context.Background(), true)
		if err != nil || len(seen.Nodes) != nodes || len(seen.Nodes[0].Allocs) != each || len(seen.Replicas) != nodes*each/2 {
			b.Fatalf("%d nodes, %d replicas, %v", len(seen.Nodes), len(seen.Replicas), err)
		}
	}
	began := time.Now()
	look()
	b.Logf("the first look, which reads every node, took %s", time.Since(began))
	b.ReportAllocs()
	for b.Loop() {
		look()
	}
}

// recorder answers lists as it did the first time, compressed.
type recorder struct {
	next    http.Handler
	mu      sync.Mutex
	answers map[string][]byte
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.URL.Path != "/v1/allocations" && q.URL.Path != "/v1/nodes" {
		r.next.ServeHTTP(w, q)
		return
	}
	key := q.URL.String()
	r.mu.Lock()
	if r.answers[key] == nil {
		recorded := httptest.NewRecorder()
		r.next.ServeHTTP(recorded, q)
		r.answers[key] = zipped(recorded.Body.Bytes())
	}
	body := r.answers[key]
	r.mu.Unlock()
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(body)
}

func zipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}
