package placement_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serve-nomad/serve-nomad/placement"
)

// machine is an ordinary node with room.
func machine() *placement.Node {
	return &placement.Node{
		ID: "n1", Name: "one", Pool: "gpu", Datacenter: "east-1", Class: "large",
		Attributes: map[string]string{"cpu.arch": "amd64", "nomad.version": "1.11.1", "cpu.frequency": "2000", "unique.hostname": "one"},
		Meta:       map[string]string{"rack": "r1", "level": "10", "tags": "a, b,c"},
		Drivers:    map[string]bool{"docker": true, "raw_exec": false},
		Volumes:    map[string]placement.Volume{"data": {}, "models": {ReadOnly: true}},
		Room:       placement.Resources{CPU: 4000, MemoryMB: 1024, DiskMB: 1000, Cores: 2},
		DiskKnown:  true,
		Ports:      placement.Ports{Low: 20000, High: 20003, Reserved: map[int]bool{22: true, 20001: true}},
		Devices: []placement.Device{
			{Vendor: "nvidia", Type: "gpu", Name: "H100", Attributes: map[string]string{"memory": "81920 MiB", "driver_version": "535.1"}, Instances: []string{"a", "b", "c"}},
			{Vendor: "nvidia", Type: "gpu", Name: "T4", Attributes: map[string]string{"memory": "16 GiB"}, Instances: []string{"t"}},
		},
		Allocs: []placement.Alloc{{
			ID: "x", Job: "there", Group: "g", Uses: placement.Resources{CPU: 1000, MemoryMB: 512, DiskMB: 100},
			Devices: map[string][]string{"nvidia/gpu/H100": {"b"}}, Ports: []int{20000, 8080}, Movable: true,
		}},
	}
}

func TestFits(t *testing.T) {
	type ask = placement.Ask
	uses := func(cpu, memory, disk, cores int) placement.Resources {
		return placement.Resources{CPU: cpu, MemoryMB: memory, DiskMB: disk, Cores: cores}
	}
	device := func(name string, count int, c ...placement.Constraint) []placement.DeviceAsk {
		return []placement.DeviceAsk{{Name: name, Count: count, Constraints: c}}
	}
	for _, c := range []struct {
		name  string
		ask   ask
		want  string // "": it fits
		never bool
	}{
		{"nothing", ask{Pool: "gpu"}, "", false},
		{"exactly what is left", ask{Pool: "gpu", Uses: uses(3000, 512, 900, 0)}, "", false},
		{"cpu", ask{Pool: "gpu", Uses: uses(3001, 1, 0, 0)}, "cpu: 3000 of 4000 MHz free, 3001 asked", false},
		{"cpu never", ask{Pool: "gpu", Uses: uses(4001, 1, 0, 0)}, "cpu: 4001 MHz asked, a node has 4000", true},
		{"memory", ask{Pool: "gpu", Uses: uses(1, 513, 0, 0)}, "memory: 512 of 1024 MiB free, 513 asked", false},
		{"disk", ask{Pool: "gpu", Uses: uses(1, 1, 901, 0)}, "disk: 900 of 1000 MiB free, 901 asked", false},
		{"cores take CPU as well", ask{Pool: "gpu", Uses: uses(0, 1, 0, 2)}, "cpu: 3000 of 4000 MHz free, 4000 asked", false},
		{"one core", ask{Pool: "gpu", Uses: uses(0, 1, 0, 1)}, "", false},
		{"too many cores", ask{Pool: "gpu", Uses: uses(0, 1, 0, 3)}, "reserved cores: 3 asked, a node has 2", true},
		{"the default pool", ask{}, "node pool default: it is in node pool gpu", true},
		{"any pool", ask{Pool: "all"}, "", false},
		{"datacenter", ask{Pool: "all", Datacenters: []string{"west-1", "dc1"}}, "datacenter west-1 or dc1: it is in datacenter east-1", true},
		{"datacenter by wildcard", ask{Pool: "all", Datacenters: []string{"e*-1"}}, "", false},
		{"wildcards do not overlap", ask{Pool: "all", Datacenters: []string{"east-*east-1"}}, "datacenter east-*east-1: it is in datacenter east-1", true},
		{"no datacenter", ask{Pool: "all", Datacenters: []string{}}, "datacenter : it is in datacenter east-1", true},
		{"driver", ask{Pool: "all", Drivers: []string{"docker"}}, "", false},
		{"driver that is not healthy", ask{Pool: "all", Drivers: []string{"docker", "raw_exec"}}, "driver raw_exec: it is not there", true},
		{"volume to read", ask{Pool: "all", Volumes: map[string]bool{"models": false, "data": true}}, "", false},
		{"volume to write", ask{Pool: "all", Volumes: map[string]bool{"models": true}}, "host volume models: it may only be read", true},
		{"no volume", ask{Pool: "all", Volumes: map[string]bool{"none": false}}, "host volume none: it is not there", true},
		{"dynamic ports", ask{Pool: "all", DynamicPorts: 2}, "", false},
		{"dynamic ports now", ask{Pool: "all", DynamicPorts: 3}, "dynamic ports: 2 of 3 free, 3 asked", false},
		{"dynamic ports never", ask{Pool: "all", DynamicPorts: 4}, "dynamic ports: 4 asked, a node has 3", true},
		{"static port", ask{Pool: "all", StaticPorts: []int{80}}, "", false},
		{"static port that is taken", ask{Pool: "all", StaticPorts: []int{80, 8080}}, "port 8080: it is taken", false},
		{"static port that is reserved", ask{Pool: "all", StaticPorts: []int{22}}, "port 22: it is reserved", true},
		{"a static port is one of the dynamic ones", ask{Pool: "all", StaticPorts: []int{20002}, DynamicPorts: 2}, "dynamic ports: 2 of 3 free, 3 asked", false},
		{"device", ask{Pool: "all", Devices: device("nvidia/gpu", 2)}, "", false},
		{"device is filled from one kind", ask{Pool: "all", Devices: device("gpu", 3)}, "device gpu: 2 free of 3, 3 asked", false},
		{"more devices than there are of one kind", ask{Pool: "all", Devices: device("gpu", 4)}, "device gpu: 4 asked, a node has 3 of one kind", true},
		{"no such device", ask{Pool: "all", Devices: device("amd/gpu", 1)}, "device amd/gpu: a node has none", true},
		{"device by name", ask{Pool: "all", Devices: device("nvidia/gpu/T4", 1)}, "", false},
		{"devices in units", ask{Pool: "all", Devices: device("gpu", 1, placement.Constraint{Left: "${device.attr.memory}", Operand: ">=", Right: "80 GiB"})}, "", false},
		{"devices in units that none has", ask{Pool: "all", Devices: device("gpu", 1, placement.Constraint{Left: "${device.attr.memory}", Operand: ">", Right: "80 GiB"})}, "device gpu: none meets ${device.attr.memory} > 80 GiB", true},
		{"units that cannot be compared", ask{Pool: "all", Devices: device("gpu", 1, placement.Constraint{Left: "${device.attr.memory}", Operand: "<", Right: "80 GHz"})}, "device gpu: none meets ${device.attr.memory} < 80 GHz", true},
		{"instance that is in use", ask{Pool: "all", Devices: device("gpu", 1, placement.Constraint{Left: "${device.ids}", Operand: "set_contains", Right: "b"})}, "device gpu: 0 free of 3, 1 asked", false},
		{"instance that is free", ask{Pool: "all", Devices: device("gpu", 1, placement.Constraint{Left: "${device.ids}", Operand: "set_contains", Right: "c"})}, "", false},
		{"two requests share one device", ask{Pool: "all", Devices: append(device("nvidia/gpu/H100", 1), device("nvidia/gpu/H100", 2)...)}, "device nvidia/gpu/H100: 1 free of 3, 2 asked", false},
		{"two requests of two devices", ask{Pool: "all", Devices: append(device("gpu", 2), device("gpu", 1)...)}, "", false},
		{"distinct_hosts", ask{Pool: "all", Job: "there", DistinctHosts: true}, "distinct_hosts: a replica of the job is there", false},
		{"distinct_hosts in another namespace", ask{Pool: "all", Job: "there", Namespace: "other", DistinctHosts: true}, "", false},
		{"distinct_property", ask{Pool: "all", Job: "there", Distinct: []placement.DistinctProperty{{Property: "${meta.rack}", Limit: 1}}}, `distinct_property ${meta.rack}: 1 of 1 replicas are with "r1"`, false},
		{"distinct_property with room", ask{Pool: "all", Job: "there", Distinct: []placement.DistinctProperty{{Property: "${meta.rack}", Limit: 2}}}, "", false},
		{"distinct_property that is not set", ask{Pool: "all", Distinct: []placement.DistinctProperty{{Property: "${meta.none}", Limit: 1}}}, "distinct_property ${meta.none}: it is not set", true},
		{"less than nothing", ask{Pool: "all", Uses: uses(-1, 0, 0, 0)}, "the ask makes no sense: it asks for less than nothing", true},
		{"no device", ask{Pool: "all", Devices: device("gpu", 0)}, "the ask makes no sense: it asks for 0 of device gpu", true},
		{"no port", ask{Pool: "all", StaticPorts: []int{70000}}, "the ask makes no sense: there is no port 70000", true},
		{"huge", ask{Pool: "all", Uses: uses(1<<62, 1<<62, 1<<62, 1<<62)}, fmt.Sprintf("reserved cores: %d asked, a node has 2", 1<<62), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := placement.Fits(machine(), &c.ask)
			if r.String() != c.want || r.Refused() != (c.want != "") || r.Never != c.never {
				t.Errorf("got %q (never %v)\nwant %q (never %v)", r, r.Never, c.want, c.never)
			}
		})
	}
}

func TestConstraints(t *testing.T) {
	for _, c := range []struct {
		left, operand, right string
		want                 string // "": it is met
	}{
		{"${attr.cpu.arch}", "=", "amd64", ""},
		{"${attr.cpu.arch}", "is", "arm64", `it is "amd64"`},
		{"${attr.none}", "=", "", "it is not set"},
		{"${attr.none}", "!=", "x", ""},
		{"${attr.none}", "!=", "", "it is not set"},
		{"${attr.none}", "!=", "${meta.none}", "it is not set"},
		{"${attr.none}", "is_set", "", "it is not set"},
		{"${attr.none}", "is_not_set", "", ""},
		{"${meta.level}", "<", "9", `it is "10"`}, // as numbers
		{"${meta.level}", "<", "9a", ""},          // as text
		{"${meta.level}", ">=", "9.5", ""},
		{"${meta.level}", ">", "10.0", `it is "10"`},
		{"${meta.level}", "<", "NaN", `it is "10"`},
		{"${meta.rack}", "regexp", "^r[0-9]$", ""},
		{"${meta.rack}", "regexp", "(", `it is "r1"`},
		{"${meta.tags}", "set_contains", "a,c", ""},
		{"${meta.tags}", "set_contains_all", "a,d", `it is "a, b,c"`},
		{"${meta.tags}", "set_contains_any", "d, b", ""},
		{"${node.class}", "=", "large", ""},
		{"${node.pool}", "=", "gpu", ""},
		{"${node.datacenter}", "!=", "east-1", `it is "east-1"`},
		{"${node.unique.name}", "=", "one", ""},
		{"${node.unique.id}", "!=", "n1", `it is "n1"`},
		{"${env.HOME}", "=", "/root", "it is not set"},
		{"east", "=", "east", ""},
		{"${meta.rack}", "=", "${meta.rack}", ""},
		{"${meta.rack}", "like", "r1", `it is "r1"`},
		{"${attr.nomad.version}", "version", ">= 1.11, < 2", ""},
		{"${attr.nomad.version}", "version", "~> 1.10", ""},
		{"${attr.nomad.version}", "version", "~> 1.10.0", `it is "1.11.1"`},
		{"${attr.nomad.version}", "semver", "> 1.11.1-rc1", ""},
		{"${attr.nomad.version}", "semver", "~> 1.10", `it is "1.11.1"`},
		{"${attr.cpu.arch}", "version", "> 0", `it is "amd64"`},
		{"1.7.0-beta1", "version", ">= 1.6", `it is "1.7.0-beta1"`},
		{"1.7.0-beta1", "semver", ">= 1.6", ""},
		{"1.7.0-beta1", "semver", ">= 1.7.0", `it is "1.7.0-beta1"`},
		{"1.7.0-beta.2", "semver", "< 1.7.0-beta.11", ""},
		{"1.7+build5", "version", "= 1.7.0", ""},
	} {
		t.Run(fmt.Sprint(c.left, " ", c.operand, " ", c.right), func(t *testing.T) {
			a := placement.Ask{Pool: "all", Constraints: []placement.Constraint{{Left: c.left, Operand: c.operand, Right: c.right}}}
			r := placement.Fits(machine(), &a)
			if r.Detail != c.want || r.Refused() != (c.want != "") {
				t.Errorf("got %q, want %q", r, c.want)
			}
		})
	}
}

func TestImaginedNodes(t *testing.T) {
	const declare = `not known of a new node: declare "cpu.model" in attributes of the worker group's node block`
	n := placement.Pattern(machine())
	for _, c := range []struct {
		left, operand, right string
		want                 string
	}{
		{"${attr.cpu.arch}", "=", "amd64", ""}, // declared
		{"${attr.cpu.model}", "=", "x", declare},
		{"${attr.cpu.model}", "!=", "x", declare},
		{"${attr.cpu.model}", "is_not_set", "", declare},
		{"x", "=", "${attr.cpu.model}", declare},
		{"${meta.none}", "!=", "x", ""}, // labels are all the meta there is
		{"${attr.consul.version}", "semver", ">= 1.8.0", ""},
		{"${attr.consul.version}", "semver", ">= 1.20.0", `not known of a new node: declare "consul.version" in attributes of the worker group's node block`},
		{"${attr.nomad.service_discovery}", "=", "true", ""},
		{"${attr.os.signals}", "set_contains", "SIGTERM", ""},
		{"${attr.driver.docker}", "=", "1", ""},
		{"${attr.driver.raw_exec}", "=", "1", `not known of a new node: declare "driver.raw_exec" in attributes of the worker group's node block`},
		{"${attr.unique.hostname}", "=", "one", "what only one node has is not known before it is there"},
		{"${attr.unique.hostname}", "!=", "one", ""},
		{"${node.unique.name}", "=", "one", "what a node is called is not known before it is there"},
		{"${node.unique.id}", "!=", "n1", ""},
		{"${node.class}", "=", "large", ""},
	} {
		t.Run(fmt.Sprint(c.left, " ", c.operand, " ", c.right), func(t *testing.T) {
			a := placement.Ask{Pool: "all", Constraints: []placement.Constraint{{Left: c.left, Operand: c.operand, Right: c.right}}}
			if r := placement.Fits(n, &a); r.Detail != c.want || r.Refused() != (c.want != "") {
				t.Errorf("got %q, want %q", r, c.want)
			}
		})
	}
	if n.ID != "" || n.Allocs != nil || n.Attributes["unique.hostname"] != "" || machine().Attributes["unique.hostname"] == "" {
		t.Errorf("the pattern still is that one node: %+v", n)
	}
	n.Drivers = nil
	if r := placement.Fits(n, &placement.Ask{Pool: "all", Drivers: []string{"exec"}}); r.Refused() {
		t.Errorf("a node whose drivers are not known has each: %s", r)
	}
}

func TestClosedNodesTakeNothing(t *testing.T) {
	n := machine()
	n.Closed = "draining"
	a := placement.Ask{Key: "a", Pool: "gpu", Count: 1}
	if r := placement.Fits(n, &a); r.String() != "draining" || r.Never {
		t.Errorf("got %q (never %v)", r, r.Never)
	}
	r := placement.Pack(placement.Input{Nodes: []*placement.Node{n}, Asks: []placement.Ask{a}})
	want := []placement.Short{{
		Count: 1, Never: true, Nodes: map[string]int{"draining": 1}, Shapes: map[string]string{},
		Headline: "no room on the nodes there are, and there is no worker group to make others",
	}}
	if diff := cmp.Diff(want, r.Short); diff != "" || len(r.Placed) > 0 {
		t.Error(diff, r.Placed)
	}
}

func TestExplanations(t *testing.T) {
	gpuShape := shape("gpu", 8, 32, 1, 0)
	gpuShape.Most, gpuShape.Refused = 0, "it has 8 nodes, and max_nodes is 8"
	few := shape("cpu", 8, 32, 0, 0)
	few.Most = 1
	nodes := []*placement.Node{machine(), machine(), machine()}
	nodes[1].Room.MemoryMB = 600
	nodes[2].Pool = "other"
	in := placement.Input{
		Nodes:  nodes,
		Shapes: []placement.Shape{gpuShape, few},
		Asks: []placement.Ask{
			{Key: "two", Job: "two", Pool: "all", Count: 1, Devices: []placement.DeviceAsk{{Name: "nvidia/gpu", Count: 4}}},
			{Key: "one", Job: "one", Count: 2, Devices: []placement.DeviceAsk{{Name: "nvidia/gpu", Count: 1}}},
			{Key: "big", Job: "big", Pool: "gpu", Count: 1, Uses: placement.Resources{MemoryMB: 600}},
			{Key: "many", Job: "many", Count: 3, Uses: placement.Resources{CPU: 20000}},
		},
	}
	r := placement.Pack(in)
	want := []placement.Short{
		{
			Ask: 0, Count: 1, Never: true,
			Nodes:    map[string]int{"device nvidia/gpu: 4 asked, a node has 3 of one kind": 3},
			Shapes:   map[string]string{"gpu": "device nvidia/gpu: 4 asked, a node has 1 of one kind", "cpu": "device nvidia/gpu: a node has none"},
			Headline: "fits no worker group: cpu: device nvidia/gpu: a node has none; gpu: device nvidia/gpu: 4 asked, a node has 1 of one kind",
		},
		{
			Ask: 1, Count: 2,
			Nodes:    map[string]int{"node pool default": 3},
			Shapes:   map[string]string{"gpu": "it has 8 nodes, and max_nodes is 8", "cpu": "device nvidia/gpu: a node has none"},
			Headline: "gpu: it has 8 nodes, and max_nodes is 8",
		},
		{
			Ask: 2, Count: 1, Never: true,
			Nodes:    map[string]int{"memory: at best 512 of 1024 MiB free, 600 asked": 2, "node pool gpu: it is in node pool other": 1},
			Shapes:   map[string]string{"gpu": "node pool gpu: it is in node pool default", "cpu": "node pool gpu: it is in node pool default"},
			Headline: "no worker group has nodes in node pool gpu",
		},
		{
			Ask: 3, Count: 2,
			Nodes:    map[string]int{"node pool default": 3},
			Shapes:   map[string]string{"gpu": "it has 8 nodes, and max_nodes is 8", "cpu": "it may have 1 node more, which others fill"},
			Headline: "cpu: it may have 1 node more, which others fill; gpu: it has 8 nodes, and max_nodes is 8",
		},
	}
	if diff := cmp.Diff(want, r.Short); diff != "" {
		t.Error(diff)
	}
	if len(r.New) != 1 || r.New[0].Shape != 1 || r.New[0].Holds["many"] != 1 {
		t.Errorf("got %+v", r.New)
	}
}

func TestManyRefusalsAreNotAllExplained(t *testing.T) {
	in := placement.Input{Shapes: shapes400(false), Asks: asksUnlike(2000, newRand(1))}
	for i := range in.Asks {
		in.Asks[i].Uses.MemoryMB = 1 << 30
	}
	r := placement.Pack(in)
	explained := 0
	for _, s := range r.Short {
		if !s.Never || !strings.HasPrefix(s.Headline, "fits no worker group") {
			t.Fatalf("got %+v", s)
		}
		if s.Shapes != nil {
			explained++
		}
	}
	if len(r.Short) != 2000 || explained < 400 || explained > 1000 {
		t.Errorf("%d short, %d explained", len(r.Short), explained)
	}
}
