package nomadjobs

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/placement"
)

const nodeID = "a0637000-f8ca-01f0-6358-c3d9934094e0"

// decodeFile reads a file of testdata: what a real Nomad answered.
func decodeFile(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func TestObservedNode(t *testing.T) {
	var whole wholeNode
	decodeFile(t, "testdata/node.json", &whole)
	seen := observedNode(&whole)
	got := seen.node
	if got.Attributes["cpu.arch"] != "amd64" || got.Meta["connect.log_level"] != "info" || seen.coreMHz != 4000 {
		t.Errorf("attributes %v, meta %v, %d MHz", got.Attributes, got.Meta, seen.coreMHz)
	}
	got.Attributes, got.Meta = nil, nil
	want := placement.Node{
		ID: nodeID, Name: "gpu-1", Pool: "gpu", Datacenter: "dc1", Class: "l4",
		Drivers:   map[string]bool{"raw_exec": true, "docker": false},
		Volumes:   map[string]placement.Volume{"models": {ReadOnly: true}, "scratch": {}},
		Room:      placement.Resources{CPU: 7500, MemoryMB: 3796, DiskMB: 257919, Cores: 1},
		DiskKnown: true,
		Devices: []placement.Device{{
			Vendor: "nvidia", Type: "gpu", Name: "NVIDIA L4", Instances: []string{"GPU-0"},
			Attributes: map[string]string{"memory": "24576 MiB", "power": "350.5 W", "driver_version": "535.104.05", "persistence_mode": "true"},
		}},
		Ports: placement.Ports{Low: 20000, High: 32000, Reserved: map[int]bool{22: true, 80: true, 8500: true, 8501: true, 8502: true, 9000: true}},
		Said:  placement.Said{Status: "ready", Eligible: true, Launch: "gpu-1a2b3c4d", Since: time.Unix(whole.StatusUpdatedAt, 0).UTC()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClosed(t *testing.T) {
	for want, said := range map[string]placement.Said{
		"":             {Status: "ready", Eligible: true},
		"not eligible": {Status: "ready"},
		"draining":     {Status: "ready", Draining: true},
		"down":         {Status: "down", Eligible: true},
		"initializing": {Status: "initializing", Eligible: true},
		"disconnected": {Status: "disconnected", Draining: true},
	} {
		if got := closed(said); got != want {
			t.Errorf("%+v: got %q, want %q", said, got, want)
		}
	}
}

func TestPlaced(t *testing.T) {
	var held heldAlloc
	decodeFile(t, "testdata/alloc.json", &held)
	want := placement.Alloc{
		ID: "837a5c73-d5c1-5a72-4f1a-39cc85d26aea", Job: "batchy", Namespace: "default", Group: "g.x", Index: 1, Movable: true,
		// The task before the main one needs more of the processor, and less memory.
		Uses:    placement.Resources{CPU: 900, MemoryMB: 100, DiskMB: 300},
		Devices: map[string][]string{"nvidia/gpu/NVIDIA L4": {"GPU-0"}},
		Ports:   []int{9999, 31350},
	}
	if diff := cmp.Diff(want, held.placed()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for kind, want := range map[string][2]bool{"service": {true, false}, "batch": {false, false}, "system": {false, true}, "sysbatch": {false, true}} {
		held.JobType = kind
		if got := held.placed(); got.Movable != want[0] || got.System != want[1] {
			t.Errorf("%s: movable %t, system %t", kind, got.Movable, got.System)
		}
	}
}

func TestTogether(t *testing.T) {
	for name, tc := range map[string]struct {
		tasks []taskUse
		want  placement.Resources
	}{
		"main tasks run beside each other": {
			[]taskUse{{cpu: 100, memory: 10}, {cpu: 200, memory: 20}, {hook: "poststart", cpu: 5, memory: 1}},
			placement.Resources{CPU: 305, MemoryMB: 31},
		},
		"what runs before and after shares their room": {
			[]taskUse{{cpu: 100, memory: 50}, {hook: "prestart", cpu: 300, memory: 10}, {hook: "poststop", cpu: 10, memory: 80}},
			placement.Resources{CPU: 300, MemoryMB: 80},
		},
		"a sidecar runs before and beside": {
			[]taskUse{{cpu: 100, memory: 50}, {hook: "prestart", sidecar: true, cpu: 50, memory: 5}, {hook: "prestart", cpu: 40, memory: 60}},
			placement.Resources{CPU: 150, MemoryMB: 65},
		},
		"whole cores are a task's own": {
			[]taskUse{{cpu: 4000, cores: 2, memory: 50}, {hook: "prestart", cpu: 300, memory: 10}},
			placement.Resources{CPU: 4300, MemoryMB: 50, Cores: 2},
		},
	} {
		if got := together(tc.tasks); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestPortRanges(t *testing.T) {
	for list, want := range map[string][]int{
		"": nil, "22": {22}, " 80 , 22 ": {22, 80}, "65534-65535,5": {5, 65534, 65535}, "9-7": nil,
	} {
		ports := map[int]bool{}
		if err := addPortRanges(ports, list); err != nil {
			t.Errorf("%q: %v", list, err)
		}
		var got []int
		for p := range ports {
			got = append(got, p)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", list, got, want)
		}
	}
	for _, list := range []string{"x", "1-", "-1", "70000", "1-70000"} {
		if err := addPortRanges(map[int]bool{}, list); err == nil {
			t.Errorf("took %q", list)
		}
	}
}

func TestObserveNodes(t *testing.T) {
	f, c := startFake(t)
	f.put("c1", 7) // asks for 3
	f.addNode("n1")
	f.addNode("n2")
	f.addHeld(rankerID, "n1", 0)
	f.addHeld(rankerID, "n2", 1)["Namespace"] = "team" // another's of the same name
	f.addHeld("serve-stranger", "n2", 0)
	f.addHeld("serve-stranger", "joined-since", 1)
	f.set(func() {
		f.queued[rankerID] = 2
		f.jobs[rankerID].Namespace = new("default")
		f.ground.pools["gpu"] = &api.NodePool{Name: "gpu"}
	})
	seen, err := c.Observe(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if !seen.NodesKnown || len(seen.Nodes) != 2 || seen.Nodes[0].ID != "n1" || seen.CoreMHz["gpu"] != 4000 {
		t.Fatalf("got %+v", seen)
	}
	if diff := cmp.Diff(map[string]bool{"default": true, "all": true, "gpu": true}, seen.Pools); diff != "" {
		t.Error(diff)
	}
	if n := seen.Jobs[rankerID].Unplaced; n != 2 {
		t.Errorf("%d unplaced, want 2 of 3 with one alive", n)
	}
	if a := seen.Nodes[0].Allocs; len(a) != 1 || !a[0].Ours || a[0].Uses.CPU != 900 {
		t.Errorf("n1 has %+v", a)
	}
	if a := seen.Nodes[1].Allocs; len(a) != 2 || a[0].Ours || a[1].Ours {
		t.Errorf("n2 has %+v", a)
	}
	f.set(func() { f.ground.nodes[0]["NodeMaxAllocs"], f.ground.nodes[0]["ModifyIndex"] = 1, uint64(10) })
	if seen, err = c.Observe(t.Context(), true); err != nil || seen.Nodes[0].Closed == "" || seen.Nodes[1].Closed != "" {
		t.Errorf("a node with as many allocations as it takes: %v", err)
	}
	if one, two := f.count("GET /v1/node/n1"), f.count("GET /v1/node/n2"); one != 2 || two != 1 {
		t.Errorf("n1 was read %d times and n2 %d times, want only after a change", one, two)
	}
}

func TestUnplaced(t *testing.T) {
	for _, tc := range []struct{ queued, count, alive, want int }{
		{0, 3, 3, 0},
		{2, 3, 1, 2},
		{2, 3, 2, 1}, // one was placed since
		{2, 3, 3, 0}, // both were
		{2, 1, 3, 0}, // the count went down
		{0, 3, 1, 0}, // Nomad has not tried yet
	} {
		if got := unplaced(tc.queued, tc.count, tc.alive); got != tc.want {
			t.Errorf("%+v: got %d", tc, got)
		}
	}
}

// Allocations that no longer stand for a replica, and those whose node does not
// answer, are not held against what is queued.
func TestUnplacedCountsWhoIsAlive(t *testing.T) {
	f, c := startFake(t)
	f.put("c1", 7).Namespace = new("default")
	f.addNode("n1")
	f.addHeld(rankerID, "n1", 0)["DesiredStatus"] = "stop"
	f.addHeld(rankerID, "n1", 1)["ClientStatus"] = "unknown"
	f.addHeld(rankerID, "n1", 2)["ClientStatus"] = "pending"
	f.set(func() { f.queued[rankerID] = 3 })
	seen, err := c.Observe(t.Context(), true)
	if err != nil || seen.Jobs[rankerID].Unplaced != 2 || len(seen.Nodes[0].Allocs) != 3 {
		t.Errorf("%d unplaced, %d held, %v", seen.Jobs[rankerID].Unplaced, len(seen.Nodes[0].Allocs), err)
	}
}

func TestObserveNodesIsWholeOrAnError(t *testing.T) {
	for _, path := range []string{"/v1/nodes", "/v1/node/n1", "/v1/node/pools", "/v1/allocations", "/v1/jobs", "/v1/acl/token/self"} {
		t.Run(path, func(t *testing.T) {
			f, c := startFake(t)
			f.put("c1", 7)
			f.addNode("n1")
			f.set(func() { f.broken = path })
			seen, err := c.Observe(t.Context(), true)
			if err == nil || seen.NodesKnown || len(seen.Nodes)+len(seen.Jobs) != 0 {
				t.Errorf("got %+v, %v", seen, err)
			}
		})
	}
	t.Run("an allocation that does not say what it holds", func(t *testing.T) {
		f, c := startFake(t)
		f.addNode("n1")
		delete(f.addHeld("other", "n1", 0), "AllocatedResources")
		if _, err := c.Observe(t.Context(), true); err == nil || !strings.Contains(err.Error(), "other-n1-0") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a list that is cut short", func(t *testing.T) {
		for _, text := range []string{`[{"ID":"a","AllocatedResources":{}}`, `[{"ID":"a",`, `[`, ``, `{}`, `null`, `<html>`} {
			if list, err := decodeHeld(json.NewDecoder(strings.NewReader(text))); err == nil {
				t.Errorf("%q: got %v", text, list)
			}
		}
	})
}

func TestNodeWithPortsThatAreNone(t *testing.T) {
	f, c := startFake(t)
	f.addNode("n1")["ReservedResources"] = map[string]any{"Networks": map[string]any{"ReservedHostPorts": "22-"}}
	f.addNode("n2")
	seen, err := c.Observe(t.Context(), true)
	if err != nil || !strings.Contains(seen.Nodes[0].Closed, "22-") || seen.Nodes[1].Closed != "" {
		t.Errorf("got %v", err)
	}
}

func TestObserveNodesNeedsAPolicy(t *testing.T) {
	rules := func(namespaces ...any) map[string]any {
		list := []any{}
		for i := 0; i < len(namespaces); i += 2 {
			list = append(list, map[string]any{"Name": namespaces[i], "Capabilities": namespaces[i+1]})
		}
		return map[string]any{"ModifyIndex": uint64(5), "RulesJSON": map[string]any{"Namespaces": list}}
	}
	read, list, deny := []string{"list-jobs", "read-job"}, []string{"list-jobs"}, []string{"deny"}
	for name, tc := range map[string]struct {
		token    api.ACLToken
		policies map[string]map[string]any
		hidden   string
	}{
		"a management token sees all":         {api.ACLToken{Type: "management"}, nil, ""},
		"one that may read every namespace":   {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": rules("*", read, "default", read)}, ""},
		"one of two policies may":             {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": rules("*", list), "q": rules("*", read)}, ""},
		"only its own namespace":              {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": rules("default", read)}, "*"},
		"no more than their names":            {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": rules("*", list)}, "*"},
		"all but one":                         {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": rules("*", read), "q": rules("secret", deny)}, "secret"},
		"a policy that takes away":            {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": rules("*", read), "q": rules("*", deny)}, "*"},
		"a Nomad that does not say its rules": {api.ACLToken{Type: "client"}, map[string]map[string]any{"p": {"ModifyIndex": uint64(5)}}, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			f, c := startFake(t)
			f.set(func() { f.ground.token, f.ground.policies = tc.token, tc.policies })
			_, err := c.Observe(t.Context(), true)
			if tc.hidden == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), `"`+tc.hidden+`"`) || !strings.Contains(err.Error(), readAllJobs) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("node pools that are left out", func(t *testing.T) {
		f, c := startFake(t)
		f.set(func() { clear(f.ground.pools) })
		if _, err := c.Observe(t.Context(), true); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), readPools) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEventsThatConcernUs(t *testing.T) {
	known := &knownPools{ours: map[string]bool{"gpu": true}, ready: map[string]int{"gpu": 2000, "theirs": 2000}}
	everywhere := &knownPools{ours: map[string]bool{"all": true}, ready: map[string]int{"theirs": 2000}}
	theirs := `{"Events":[{"Topic":"Node","Key":"n9","Payload":{"Node":{"ID":"n9","NodePool":"theirs","Meta":{"rack":"r1"}}}}]}`
	for _, tc := range []struct {
		line  string
		known *knownPools
		want  bool
	}{
		{theirs, nil, true},
		{theirs, known, false},
		{theirs, everywhere, true},
		{`{"Events":[{"Topic":"Node","Payload":{"Node":{"NodePool":"gpu"}}}]}`, known, true},
		{`{"Events":[{"Topic":"Node","Payload":{"Node":{"NodePool":"empty"}}}]}`, known, true},
		{`{"Events":[{"Topic":"Node","Payload":{"Node":{"NodePool":"theirs","Meta":{"serve_node":"x"}}}}]}`, known, true},
		{`{"Events":[{"Topic":"Allocation","Key":"a","FilterKeys":["serve-a"],"Payload":{"Allocation":{"JobID":"serve-a"}}}]}`, known, true},
		{`{"Events":[{"Topic":"Evaluation","Key":"e","FilterKeys":["other",""]}]}`, known, false},
		{`{"Events":[{"Topic":"NodePool","Key":"gpu","Payload":{"NodePool":{"Name":"gpu"}}}]}`, known, true},
		{`{}`, known, false},
	} {
		var batch eventBatch
		if err := json.Unmarshal([]byte(tc.line), &batch); err != nil {
			t.Fatal(err)
		}
		if got := batch.concernsUs(tc.known); got != tc.want {
			t.Errorf("%s: got %t", tc.line, got)
		}
	}
}
