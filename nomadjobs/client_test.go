package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

const rankerID = "serve-search-ranker-1a2b3c4d"

func TestObserve(t *testing.T) {
	f, c := startFake(t)
	job := f.put("c1", 7)
	f.set(func() {
		f.allocs = []*api.AllocationListStub{
			{ID: "a1", JobID: rankerID, NodeName: "n1", DesiredStatus: "run", ClientStatus: "running"},
			{ID: "a2", JobID: "serve-stranger", DesiredStatus: "run", ClientStatus: "running"},
		}
		f.nodes = []*api.NodeListStub{{NodePool: "default", Status: "ready", NodeResources: &api.NodeResources{Cpu: api.NodeCpuResources{CpuShares: 4000, TotalCpuCores: 2}}}}
		f.queued[rankerID] = 2
		f.evals = []*api.Evaluation{{JobID: rankerID, FailedTGAllocs: map[string]*api.AllocationMetric{
			"ranker": {NodesInPool: 1, NodesEvaluated: 1, DimensionExhausted: map[string]int{"memory": 1}},
		}}}
	})
	got, err := c.Observe(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	meta, _, _ := jobspec.Read(job)
	ask, err := AskOf(job)
	if err != nil {
		t.Fatal(err)
	}
	want := reconcile.Observation{
		Jobs: map[string]reconcile.Job{rankerID: {
			ID: rankerID, ClusterID: "c1", Application: "search", Deployment: "ranker", Version: "1a2b3c4d",
			LiveHash: meta.LiveHash, CoreMHz: 2000, Count: 3, ModifyIndex: 7, Unplaced: 2,
			Blocked: "the only node: not enough memory free", Ask: &ask,
		}},
		Replicas: []reconcile.Replica{{ID: "a1", JobID: rankerID, Node: "n1", Status: reconcile.ReplicaRunning, CreatedAt: time.Unix(0, 0).UTC()}},
		CoreMHz:  map[string]int{"default": 2000, "all": 2000},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestObserveFetchesAJobOnlyWhenItChanged(t *testing.T) {
	f, c := startFake(t)
	f.put("c1", 7)
	for range 3 {
		if _, err := c.Observe(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.count("GET /v1/job/" + rankerID); n != 1 {
		t.Errorf("fetched %d times, want 1", n)
	}
	f.put("c1", 8)
	seen, err := c.Observe(t.Context(), false)
	if err != nil || seen.Jobs[rankerID].ModifyIndex != 8 {
		t.Errorf("got %+v, %v", seen, err)
	}
}

// A leader that comes new to many jobs must get through them, however short
// the time for one look is.
func TestObserveGoesOnWhereALookWasCutOff(t *testing.T) {
	f, c := startFake(t)
	f.put("c1", 7)
	for i := range 100 {
		job := fakeJob("c1")
		job.ID = new(fmt.Sprintf("%s-%d", rankerID, i))
		job.JobModifyIndex = new(uint64(7))
		f.set(func() { f.jobs[*job.ID] = job })
	}
	f.set(func() { f.broken = "/v1/job/" + rankerID + "-99" })
	if _, err := c.Observe(t.Context(), false); err == nil {
		t.Fatal("a look without one of the jobs is no error")
	}
	f.set(func() { f.broken = "" })
	first := f.total("GET /v1/job/")
	seen, err := c.Observe(t.Context(), false)
	if err != nil || len(seen.Jobs) != 101 {
		t.Fatalf("%d jobs, %v", len(seen.Jobs), err)
	}
	// Only the one that was broken, and those that were cut off with it, are read again.
	if all := f.total("GET /v1/job/"); all > 101+readers {
		t.Errorf("%d calls, %d of them in the first look", all, first)
	}
}

func TestObserveIsWholeOrAnError(t *testing.T) {
	for _, path := range []string{"/v1/jobs", "/v1/job/", "/v1/allocations", "/v1/nodes", "/v1/evaluations"} {
		t.Run(path, func(t *testing.T) {
			f, c := startFake(t)
			f.put("c1", 7)
			f.set(func() { f.broken, f.queued[rankerID] = path, 1 })
			seen, err := c.Observe(t.Context(), false)
			if err == nil || len(seen.Jobs)+len(seen.Replicas)+len(seen.CoreMHz) != 0 {
				t.Errorf("got %+v, %v", seen, err)
			}
		})
	}
}

func TestRegister(t *testing.T) {
	t.Run("makes a job that is not there", func(t *testing.T) {
		f, c := startFake(t)
		if err := c.Register(t.Context(), fakeJob("c1"), 0); err != nil {
			t.Fatal(err)
		}
		if f.jobs[rankerID] == nil {
			t.Error("no job")
		}
	})
	t.Run("refuses to replace a running job unseen", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c1", 7)
		if err := c.Register(t.Context(), fakeJob("c1"), 0); !errors.Is(err, ErrConflict) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refuses an index that is old", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c1", 7)
		if err := c.Register(t.Context(), fakeJob("c1"), 6); !errors.Is(err, ErrConflict) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("starts its own stopped job again", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c1", 7).Stop = new(true)
		if err := c.Register(t.Context(), fakeJob("c1"), 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("leaves another cluster's stopped job alone", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c2", 7).Stop = new(true)
		if err := c.Register(t.Context(), fakeJob("c1"), 0); !errors.Is(err, ErrConflict) {
			t.Errorf("got %v", err)
		}
	})
}

func TestUpdate(t *testing.T) {
	meta := map[string]string{jobspec.MaxOngoingRequestsMeta: "9"}
	f, c := startFake(t)
	f.put("c1", 7).TaskGroups[0].Tasks[0].Env["SERVE_HANDLE_X"] = "http://as-it-was-made"
	if err := c.Update(t.Context(), reconcile.Update{JobID: rankerID, Group: "ranker", Count: 5, Meta: meta, ModifyIndex: 6}); !errors.Is(err, ErrConflict) {
		t.Errorf("with an old index: %v", err)
	}
	if err := c.Update(t.Context(), reconcile.Update{JobID: rankerID, Group: "ranker", Count: 5, Meta: meta, ModifyIndex: 7}); err != nil {
		t.Fatal(err)
	}
	group := f.jobs[rankerID].TaskGroups[0]
	if *group.Count != 5 || group.Services[0].Meta[jobspec.MaxOngoingRequestsMeta] != "9" || group.Services[0].Meta[jobspec.VersionMeta] != "1a2b3c4d" {
		t.Errorf("count %d, meta %v", *group.Count, group.Services[0].Meta)
	}
	if env := group.Tasks[0].Env["SERVE_HANDLE_X"]; env != "http://as-it-was-made" {
		t.Errorf("the task changed: %q", env)
	}
}

func TestStop(t *testing.T) {
	const deletion = "DELETE /v1/job/" + rankerID
	t.Run("stops the job that was seen", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c1", 7)
		for range 2 { // the second time it is stopped already
			if err := c.Stop(t.Context(), rankerID, 7); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.count(deletion); n != 1 {
			t.Errorf("%d deletions, want 1", n)
		}
	})
	t.Run("leaves a job that changed since", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c1", 8)
		if err := c.Stop(t.Context(), rankerID, 7); !errors.Is(err, ErrConflict) || f.count(deletion) != 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("leaves a job that is not serve-nomad's", func(t *testing.T) {
		f, c := startFake(t)
		f.put("c1", 7).Meta = nil
		if err := c.Stop(t.Context(), rankerID, 7); err == nil || f.count(deletion) != 0 {
			t.Errorf("got %v", err)
		}
	})
	t.Run("says when there is none", func(t *testing.T) {
		_, c := startFake(t)
		if err := c.Stop(t.Context(), rankerID, 7); !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Address: address}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Observe(t.Context(), false)
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"http://" + address, "NOMAD_ADDR"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	// Of the calls that run at once any may fail first: the reason stays the same.
	if !strings.HasPrefix(err.Error(), ErrUnreachable.Error()) {
		t.Errorf("%q begins with one of the calls", err)
	}
}

func TestAddress(t *testing.T) {
	t.Setenv("NOMAD_ADDR", "https://nomad.example:4646")
	for config, want := range map[string]string{
		"":                             "https://nomad.example:4646",
		"10.0.0.1:4646":                "http://10.0.0.1:4646",
		"http://10.0.0.2:4646":         "http://10.0.0.2:4646",
		"unix:///var/run/nomad/a.sock": "unix:///var/run/nomad/a.sock",
	} {
		c, err := New(Config{Address: config}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.Address() != want {
			t.Errorf("%q: got %s, want %s", config, c.Address(), want)
		}
	}
	if _, err := New(Config{Address: "http://%zz"}, nil); err == nil {
		t.Error("took an address that is none")
	}
}

func TestWake(t *testing.T) {
	f, c := startFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wake := c.Wake(ctx)
	tick(t, wake, "on connecting")

	send := func(line string) {
		t.Helper()
		select {
		case f.events <- line:
		case <-time.After(10 * time.Second):
			t.Fatalf("nobody reads %s", line)
		}
	}
	send(`{"Index":5,"Events":[{"Topic":"Job","Key":"` + rankerID + `","Payload":{"Job":{"ID":"x"}}}]}`)
	tick(t, wake, "on a job of ours")
	send(`{"Index":6,"Events":[{"Topic":"Job","Key":"other"}]}`)
	send(`{"Index":6,"Events":[{"Topic":"Allocation","Key":"a1","FilterKeys":["other",""]}]}`)
	send(`{}`)
	send(`{"Index":7,"Events":[{"Topic":"Allocation","Key":"a2","FilterKeys":["` + rankerID + `"]}]}`)
	tick(t, wake, "on an allocation of ours")
	select {
	case <-wake:
		t.Error("woke for a stranger")
	default:
	}
	send(`{"Index":8,"Events":[{"Topic":"Node","Key":"n1"}]}`)
	tick(t, wake, "on a node")
	send("close")
	tick(t, wake, "on connecting again")
	cancel()
	for range wake { // ends when the channel is closed
	}
}

// What happens to the nodes of others wakes nobody once it is known which pools
// are ours, and a management token is told of node pools.
func TestWakeForNodes(t *testing.T) {
	f, c := startFake(t)
	f.put("c1", 7).NodePool = new("gpu")
	f.addNode("n1")["NodePool"] = "theirs"
	f.set(func() { f.ground.token.Type = "management" })
	wake := c.Wake(t.Context())
	tick(t, wake, "on connecting")
	node := func(pool, meta string) string {
		return `{"Events":[{"Topic":"Node","Key":"n9","Payload":{"Node":{"ID":"n9","NodePool":"` + pool + `","Meta":{` + meta + `}}}}]}`
	}
	f.events <- node("theirs", "")
	tick(t, wake, "on any node while there was no look")
	if _, err := c.Observe(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	f.events <- node("theirs", "")
	f.events <- node("theirs", `"rack":"r1"`)
	f.events <- `{}` // the stream has taken both by now
	select {
	case <-wake:
		t.Error("woke for a node of a pool that nothing of ours is in")
	default:
	}
	for when, line := range map[string]string{
		"on a node of our pool":               node("gpu", ""),
		"on a node that we ordered":           node("theirs", `"serve_node":"gpu-1a2b3c4d"`),
		"on the first node of a pool":         node("empty", ""),
		"on a node that does not say its own": `{"Events":[{"Topic":"Node","Key":"n9"}]}`,
		"on a node pool":                      `{"Events":[{"Topic":"NodePool","Key":"gpu","Payload":{"NodePool":{"Name":"gpu"}}}]}`,
		"on a blocked evaluation of ours":     `{"Events":[{"Topic":"Evaluation","Key":"e1","FilterKeys":["` + rankerID + `",""],"Payload":{"Evaluation":{"Status":"blocked"}}}]}`,
	} {
		f.events <- line
		tick(t, wake, when)
	}
	if n := f.count("GET /v1/event/stream"); n != 1 {
		t.Errorf("connected %d times", n)
	}
}

func tick(t *testing.T, wake <-chan struct{}, when string) {
	t.Helper()
	select {
	case _, open := <-wake:
		if !open {
			t.Fatalf("the channel is closed %s", when)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no tick %s", when)
	}
}

func TestLogs(t *testing.T) {
	f, c := startFake(t)
	f.logs = "one\ntwo\nthree\n"
	lines, err := c.LastLines(t.Context(), "a1", "ranker", "stderr", 2)
	if diff := cmp.Diff([]string{"two", "three"}, lines); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	log, err := c.Logs(t.Context(), LogRequest{Replica: "a1", Task: "ranker", Stream: "stdout", TailLines: 1})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(log)
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	if string(text) != "three\n" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := c.Logs(t.Context(), LogRequest{Replica: "a1", Task: "ranker", Stream: "stdin"}); err == nil {
		t.Error("took a stream that is none")
	}
	f.set(func() { f.broken = "/v1/client/" })
	if _, err := c.Logs(t.Context(), LogRequest{Replica: "a1", Task: "ranker", Stream: "stdout"}); err == nil {
		t.Error("took a fault for a log")
	}
}

func TestLogsEndWithTheContext(t *testing.T) {
	server, client := net.Pipe()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	reader := &logReader{ended: ctx.Err, cancel: cancel, body: client}
	cancel()
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := reader.Read(make([]byte, 8)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestOneLine(t *testing.T) {
	got := oneLine("1 error occurred:\n\t* Task group web validation failed: 1 error occurred:\n\t* Missing task driver\n\n")
	if want := "Task group web validation failed: Missing task driver"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
