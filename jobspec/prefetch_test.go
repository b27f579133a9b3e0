package jobspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

func TestNodePool(t *testing.T) {
	group := &appspec.WorkerGroup{Name: "gpu", NodePool: "big"}
	for name, test := range map[string]struct {
		dep   appspec.Deployment
		group *appspec.WorkerGroup
		want  string
	}{
		"the group's":           {appspec.Deployment{WorkerGroup: "gpu"}, group, "big"},
		"its own":               {appspec.Deployment{NodePool: "all"}, nil, "all"},
		"the servers' default":  {appspec.Deployment{}, nil, "main"},
		"the group's, and said": {appspec.Deployment{WorkerGroup: "gpu", NodePool: "big"}, group, "big"},
	} {
		if got := NodePool(&test.dep, test.group, Placement{NodePool: "main"}); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	in := samples()["hello"]
	in.Placement.NodePool, in.Deployment.NodePool = "main", "other"
	if got := *Render(in).NodePool; got != "other" {
		t.Errorf("the job is for pool %q", got)
	}
	in.WorkerGroup = group
	if job := Render(in); *job.NodePool != "big" || job.TaskGroups[0].Constraints != nil {
		t.Errorf("the job is for pool %q, with %v", *job.NodePool, job.TaskGroups[0].Constraints)
	}
}

func prefetching() (*appspec.WorkerGroup, *appspec.Prefetch) {
	p := &appspec.Prefetch{
		Name: "model", Resources: appspec.Resources{CPU: 0.1, MemoryMB: 64},
		Task: &api.Task{
			Driver: "docker", Config: map[string]any{"image": "registry.example/ranker:1.4", "command": "true"}, Env: map[string]string{"A": "b"},
			Artifacts:    []*api.TaskArtifact{{GetterSource: new("https://models.example/7b")}},
			VolumeMounts: []*api.VolumeMount{{Volume: new("models"), Destination: new("/models")}},
		},
	}
	return &appspec.WorkerGroup{
		Name: "gpu", NodePool: "big", Node: appspec.NodeShape{CPU: 8, GPU: 1, Class: "t4"}, Prefetch: []*appspec.Prefetch{p},
	}, p
}

func TestRenderPrefetch(t *testing.T) {
	group, p := prefetching()
	job := RenderPrefetch("c1", group, p, 2596, Placement{Namespace: "ml", NodePool: "default"})
	golden(t, "prefetch", job)
	before := clone(group)
	scribble(job)
	if diff := cmp.Diff(before, group); diff != "" {
		t.Errorf("the input changed:\n%s", diff)
	}
	least := RenderPrefetch("c1", group, &appspec.Prefetch{Name: "empty"}, 0, Placement{})
	if r := least.TaskGroups[0].Tasks[0].Resources; *r.CPU != 1 || *r.MemoryMB != 10 {
		t.Errorf("without resources it asks for %d MHz and %d MiB", *r.CPU, *r.MemoryMB)
	}
}

// Whoever looks at Nomad finds it as one of ours, and as no deployment's.
func TestAPrefetchJobIsOurs(t *testing.T) {
	group, p := prefetching()
	job := RenderPrefetch("c1", group, p, 2596, Placement{})
	got, count, ours := Read(job)
	want := Meta{ClusterID: "c1", WorkerGroup: "gpu", Prefetch: "model", CoreMHz: 2596, Version: got.Version}
	if diff := cmp.Diff(want, got); diff != "" || !ours || count != 0 || got.Version == "" {
		t.Errorf("count %d, ours %v, meta (-want +got):\n%s", count, ours, diff)
	}
	for _, broken := range []string{ClusterIDMeta, WorkerGroupMeta, PrefetchMeta, VersionMeta} {
		meta := clone(job.Meta)
		delete(meta, broken)
		if _, ours := ReadMeta(meta); ours {
			t.Errorf("without %s it is ours still", broken)
		}
	}
	both := Render(samples()["hello"]).Meta
	both[WorkerGroupMeta], both[PrefetchMeta] = "gpu", "model"
	if _, ours := ReadMeta(both); ours {
		t.Error("took a job that is both for ours")
	}
}

func TestPrefetchIDNamesTheContent(t *testing.T) {
	group, p := prefetching()
	id := PrefetchID(group, p)
	for name, change := range map[string]func(*appspec.WorkerGroup, *appspec.Prefetch){
		"another task":    func(_ *appspec.WorkerGroup, p *appspec.Prefetch) { p.Task.Config["image"] = "other" },
		"other resources": func(_ *appspec.WorkerGroup, p *appspec.Prefetch) { p.Resources.MemoryMB++ },
		"another class":   func(g *appspec.WorkerGroup, _ *appspec.Prefetch) { g.Node.Class = "a100" },
		"another pool":    func(g *appspec.WorkerGroup, _ *appspec.Prefetch) { g.NodePool = "small" },
		"another name":    func(g *appspec.WorkerGroup, _ *appspec.Prefetch) { g.Name = "gpu2" },
		"names cut elsewhere": func(g *appspec.WorkerGroup, p *appspec.Prefetch) {
			g.Name, p.Name = "gpu-model", "x"
			other, q := clone(group), clone(p)
			other.Name, q.Name = "gpu", "model-x"
			if PrefetchID(g, p) == PrefetchID(other, q) {
				t.Error("two prefetch blocks share an id")
			}
		},
	} {
		g, q := clone(group), clone(p)
		change(g, q)
		if PrefetchID(g, q) == id {
			t.Errorf("%s does not change the id", name)
		}
	}
	g := clone(group)
	g.MaxNodes, g.Price, g.Node.CPU = 9, 2, 16
	if PrefetchID(g, p) != id {
		t.Error("what is not of the task changes the id")
	}
}
