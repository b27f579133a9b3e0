package jobspec

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/appspec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samples are applications as a parser leaves them: defaults filled in.
func samples() map[string]Input {
	check := appspec.HealthCheck{Path: "/healthz", Period: appspec.Duration(2 * time.Second), Timeout: appspec.Duration(time.Second)}
	search := &appspec.Application{
		Name: "search", RoutePrefix: "/search", Ingress: "pipeline",
		Deployments: []*appspec.Deployment{
			{
				Name: "pipeline", Handles: []string{"embedder", "re-ranker"}, NumReplicas: 2, MaxOngoingRequests: 5,
				Resources: appspec.Resources{CPU: 0.5, MemoryMB: 128}, HealthCheck: check,
				GracefulShutdownTimeout: appspec.Duration(20 * time.Second),
				UserConfig:              json.RawMessage(`{"note":"{{ env \"HOME\" }} ${NOMAD_ALLOC_ID}","threshold":0.5}`),
				Task: &api.Task{
					Driver: "raw_exec",
					Config: map[string]any{"command": "python3", "args": []any{"pipeline.py"}},
					Env:    map[string]string{"MODE": "fast", "SERVE_VERSION": "mine"},
				},
			},
			{
				Name: "re-ranker", NumReplicas: 1, MaxOngoingRequests: 1,
				Resources: appspec.Resources{CPU: 2, MemoryMB: 8192, GPU: 2}, HealthCheck: check,
				GracefulShutdownTimeout: appspec.Duration(30 * time.Second),
				Task: &api.Task{
					Driver:       "docker",
					Config:       map[string]any{"image": "registry.example/ranker:1.4"},
					KillSignal:   "SIGINT",
					Templates:    []*api.Template{{EmbeddedTmpl: new("A={{ key \"a\" }}"), DestPath: new("local/a.env"), Envvars: new(true)}},
					VolumeMounts: []*api.VolumeMount{{Volume: new("models"), Destination: new("/models"), ReadOnly: new(true)}},
					Constraints:  []*api.Constraint{{LTarget: "${attr.kernel.name}", RTarget: "linux", Operand: "="}},
				},
			},
		},
	}
	hello := &appspec.Application{
		Name: "hello", RoutePrefix: "/", Ingress: "hello",
		Deployments: []*appspec.Deployment{{
			Name: "hello", NumReplicas: 1, MaxOngoingRequests: 5,
			Resources: appspec.Resources{CPU: 0.1, MemoryMB: 64}, HealthCheck: check,
			GracefulShutdownTimeout: appspec.Duration(20 * time.Second),
			Task:                    &api.Task{Driver: "raw_exec", Config: map[string]any{"command": "python3", "args": []any{"hello.py"}}},
		}},
	}
	chat := clone(hello)
	chat.Name, chat.RoutePrefix, chat.Deployments[0].NumReplicas = "chat", "/chat", 0
	chat.Deployments[0].Autoscaling = &appspec.Autoscaling{
		Policy: appspec.PolicyRay, MaxReplicas: 8, MetricsInterval: appspec.Duration(time.Second),
		Schedules: []*appspec.Schedule{{Name: "day", Cron: "0 8 * * mon-fri", Timezone: "UTC", MinReplicas: new(2)}},
	}
	chat.Complete()
	input := func(app *appspec.Application, dep int) Input {
		return Input{
			ClusterID: "c1", Application: app, Deployment: app.Deployments[dep], Version: "1a2b3c4d", Count: 2,
			CoreMHz: 2596, HandleAddress: "127.0.0.1:8001", UIAddress: "http://127.0.0.1:8265/",
		}
	}
	ranker := input(search, 1)
	ranker.Placement = Placement{Namespace: "ml", Region: "eu", NodePool: "gpu", Datacenters: []string{"dc1", "dc2"}}
	ranker.ShutdownDelay, ranker.UIAddress = 4*time.Second, ""
	ranker.HandleAddress = "${attr.unique.network.ip-address}:8001"
	zero := input(chat, 0)
	zero.Count = chat.Deployments[0].FirstReplicas()
	grouped := input(search, 1)
	grouped.Placement.NodePool = "default"
	grouped.WorkerGroup = &appspec.WorkerGroup{Name: "gpu", NodePool: "big", Node: appspec.NodeShape{CPU: 8, GPU: 1, Class: "t4"}}
	speak := clone(hello)
	speak.Name, speak.RoutePrefix = "speak", "/speak"
	speak.Deployments[0].Protocol = appspec.ProtocolGRPC
	speak.Deployments[0].HealthCheck.Path, speak.Deployments[0].HealthCheck.Service = "", "hello.v1.Greeter"
	second := input(search, 0)
	second.Version, second.Generation = "1a2b3c4d-g3", 3
	signalled, called := input(clone(search), 0), input(clone(hello), 0)
	signalled.Deployment.Reconfigure = &appspec.Reconfigure{Signal: "SIGHUP"}
	signalled.Version, signalled.Generation = "1a2b3c4d-g3", 3
	called.Deployment.Reconfigure = &appspec.Reconfigure{Path: "/-/config"}
	return map[string]Input{"search-pipeline-generation-3": second, "search-pipeline-config-by-signal": signalled, "hello-config-by-path": called, "speak": input(speak, 0), "search-re-ranker-in-a-group": grouped, "search-pipeline": input(search, 0), "search-re-ranker": ranker, "hello": input(hello, 0), "chat-at-zero": zero}
}

func TestRender(t *testing.T) {
	for name, in := range samples() {
		t.Run(name, func(t *testing.T) {
			golden(t, name, Render(in))
		})
	}
}

// A change of the user_config alone must leave such a job as it is: Nomad
// would replace its replicas.
func TestLiveConfigIsNotInTheJob(t *testing.T) {
	for _, name := range []string{"search-pipeline-config-by-signal", "hello-config-by-path"} {
		in := samples()[name]
		before := Render(in)
		in.Deployment.UserConfig = json.RawMessage(`{"another":true}`)
		if diff := cmp.Diff(before, Render(in)); diff != "" {
			t.Errorf("%s: another user_config changes the job:\n%s", name, diff)
		}
	}
}

// Nomad takes 128 characters, and appspec names of 90 together.
func TestTheLongestConfigPath(t *testing.T) {
	path := ConfigPath(JobID(strings.Repeat("a", 30), strings.Repeat("b", 60), "1a2b3c4d-g99999"))
	if len(path) > 128 || !strings.HasPrefix(path, ConfigPrefix) {
		t.Errorf("%s has %d characters", path, len(path))
	}
}

func TestCheckByProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		protocol, path, service string
		want                    api.ServiceCheck
	}{
		"HTTP/1.1 is asked for a path":     {"", "/up", "", api.ServiceCheck{Type: "http", Method: "GET", Path: "/up"}},
		"h2c with a path is asked for it":  {"h2c", "/up", "", api.ServiceCheck{Type: "http", Method: "GET", Path: "/up"}},
		"h2c without is connected to":      {"h2c", "", "", api.ServiceCheck{Type: "tcp"}},
		"gRPC is asked for the server":     {"grpc", "", "", api.ServiceCheck{Type: "grpc"}},
		"gRPC is asked for one service":    {"grpc", "", "a.B", api.ServiceCheck{Type: "grpc", GRPCService: "a.B"}},
		"HTTP/1.1 by name is what it does": {"http", "/up", "", api.ServiceCheck{Type: "http", Method: "GET", Path: "/up"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := samples()["hello"]
			in.Deployment.Protocol = c.protocol
			in.Deployment.HealthCheck.Path, in.Deployment.HealthCheck.Service = c.path, c.service
			c.want.Name, c.want.PortLabel, c.want.FailuresBeforeCritical = "health", PortLabel, 3
			c.want.Interval, c.want.Timeout = 2*time.Second, time.Second
			got := Render(in).TaskGroups[0].Services[0].Checks
			if diff := cmp.Diff([]api.ServiceCheck{c.want}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func golden(t *testing.T, name string, job *api.Job) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(compact(t, job)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".golden.json")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("run with -update if this is right (-want +got):\n%s", diff)
	}
}

// compact leaves out what is not set, for golden files that can be read.
func compact(t *testing.T, job *api.Job) any {
	t.Helper()
	data, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return prune(v)
}

func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			if kept := prune(value); kept != nil && kept != "" && kept != false {
				out[key] = kept
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
		if len(v) == 0 {
			return nil
		}
		return v
	default:
		return v
	}
}

func TestRenderLeavesItsInputAlone(t *testing.T) {
	for name, in := range samples() {
		t.Run(name, func(t *testing.T) {
			before := clone(in)
			job := Render(in)
			scribble(job)
			if diff := cmp.Diff(before, in); diff != "" {
				t.Errorf("the input changed:\n%s", diff)
			}
		})
	}
}

// scribble changes all that a job could share with what it was made from.
func scribble(job *api.Job) {
	task := job.TaskGroups[0].Tasks[0]
	for key := range task.Config {
		if list, ok := task.Config[key].([]any); ok {
			list[0] = "scribbled"
		}
		task.Config[key] = "scribbled"
	}
	for key := range task.Env {
		task.Env[key] = "scribbled"
	}
	for _, template := range task.Templates {
		*template.EmbeddedTmpl, *template.DestPath = "scribbled", "scribbled"
	}
	for _, mount := range task.VolumeMounts {
		*mount.Volume = "scribbled"
	}
	for _, constraint := range task.Constraints {
		constraint.RTarget = "scribbled"
	}
	if len(job.Datacenters) > 0 {
		job.Datacenters[0] = "scribbled"
	}
}

func TestRenderTwiceIsTheSame(t *testing.T) {
	for _, in := range samples() {
		if diff := cmp.Diff(Render(in), Render(in)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestRead(t *testing.T) {
	in := samples()["search-pipeline"]
	want := Meta{
		ClusterID: "c1", Application: "search", Deployment: "pipeline", Version: "1a2b3c4d", CoreMHz: 2596,
		LiveHash: LiveHash(in.Application, in.Deployment),
	}
	got, count, ours := Read(Render(in))
	if diff := cmp.Diff(want, got); diff != "" || count != 2 || !ours {
		t.Errorf("count %d, ours %v, meta (-want +got):\n%s", count, ours, diff)
	}
	if _, _, ours := Read(&api.Job{Meta: map[string]string{"serve_application": "search"}}); ours {
		t.Error("took a stranger's job for ours")
	}
}

func TestLiveHash(t *testing.T) {
	in := samples()["hello"]
	before := LiveHash(in.Application, in.Deployment)
	scaled := clone(in.Deployment)
	scaled.NumReplicas++
	if LiveHash(in.Application, scaled) != before {
		t.Error("the count is in the live hash")
	}
	limited := clone(in.Deployment)
	limited.MaxOngoingRequests++
	if LiveHash(in.Application, limited) == before {
		t.Error("max_ongoing_requests is not in the live hash")
	}
}

// Nomad replaces every replica when a task or the job's meta changes, so what
// may change in place must stay out of both.
func TestLimitsChangeInPlace(t *testing.T) {
	in := samples()["search-pipeline"]
	before := Render(in)
	in.Deployment.MaxOngoingRequests++
	after := Render(in)
	if cmp.Equal(before.TaskGroups[0].Services, after.TaskGroups[0].Services) {
		t.Error("the service does not tell the new limit")
	}
	after.TaskGroups[0].Services = before.TaskGroups[0].Services
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("more than the service changed:\n%s", diff)
	}
}

// How a deployment scales is serve-nomad's own business: a change of it restarts
// no replica, and a scaling block would bring Nomad's own autoscaler in.
func TestScalingIsNotInTheJob(t *testing.T) {
	in := samples()["chat-at-zero"]
	scaling := Render(in)
	if group := scaling.TaskGroups[0]; *group.Count != 0 || group.Scaling != nil || group.Tasks[0].ScalingPolicies != nil {
		t.Errorf("count %d, scaling %v, %v", *group.Count, group.Scaling, group.Tasks[0].ScalingPolicies)
	}
	in.Deployment.Autoscaling = nil
	if diff := cmp.Diff(Render(in), scaling); diff != "" {
		t.Errorf("an autoscaling block changes the job:\n%s", diff)
	}
}

func TestServiceName(t *testing.T) {
	long := strings.Repeat("a", 40)
	for name, tc := range map[string]struct{ app, dep, want string }{
		"is plain where it fits":               {"search", "ranker", "serve-search-ranker"},
		"takes 63 characters":                  {strings.Repeat("a", 28), strings.Repeat("b", 28), "serve-" + strings.Repeat("a", 28) + "-" + strings.Repeat("b", 28)},
		"is cut and told apart by a hash":      {long, long, "serve-" + long + "-" + strings.Repeat("a", 7) + "-" + hash8(long+"/"+long)},
		"does not end in a dash":               {"search", "ranker-", "serve-search-ranker-" + hash8("search/ranker-")},
		"is not cut just behind a dash's edge": {long + "-------------", long, "serve-" + long + "-" + hash8(long+"-------------/"+long)},
	} {
		t.Run(name, func(t *testing.T) {
			got := ServiceName(tc.app, tc.dep)
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if len(got) > 63 {
				t.Errorf("%d characters", len(got))
			}
		})
	}
}

func TestPorts(t *testing.T) {
	for name, tc := range map[string]struct {
		driver string
		config map[string]any
		want   any
	}{
		"a container's port is published":              {"docker", map[string]any{"image": "x"}, []string{"http"}},
		"podman's too":                                 {"podman", nil, []string{"http"}},
		"the user's ports stay":                        {"docker", map[string]any{"ports": []any{"http"}}, []any{"http"}},
		"a container on the host's network needs none": {"docker", map[string]any{"network_mode": "host"}, nil},
		"nor does one on another container's":          {"docker", map[string]any{"network_mode": "container:x"}, nil},
		"nor does a process on the host":               {"exec", map[string]any{"command": "x"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			in := samples()["hello"]
			in.Deployment.Task = &api.Task{Driver: tc.driver, Config: tc.config}
			got := Render(in).TaskGroups[0].Tasks[0].Config["ports"]
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResources(t *testing.T) {
	for name, tc := range map[string]struct {
		want    appspec.Resources
		coreMHz int
		cpu     int
		gpus    uint64
	}{
		"cores become MHz, rounded":              {appspec.Resources{CPU: 0.25}, 2597, 649, 0},
		"Nomad takes no less than 1 MHz":         {appspec.Resources{CPU: 0.0001}, 2000, 1, 0},
		"an unknown core counts for the default": {appspec.Resources{CPU: 2}, 0, 2 * DefaultCoreMHz, 0},
		"whole GPUs are devices":                 {appspec.Resources{CPU: 1, GPU: 4}, 1000, 1000, 4},
		"no replica gets less GPU than it asks":  {appspec.Resources{CPU: 1, GPU: 0.25}, 1000, 1000, 1},
	} {
		t.Run(name, func(t *testing.T) {
			in := samples()["hello"]
			in.CoreMHz, in.Deployment.Resources = tc.coreMHz, tc.want
			got := Render(in).TaskGroups[0].Tasks[0].Resources
			if *got.CPU != tc.cpu {
				t.Errorf("cpu %d, want %d", *got.CPU, tc.cpu)
			}
			var gpus uint64
			for _, d := range got.Devices {
				gpus += *d.Count
			}
			if gpus != tc.gpus {
				t.Errorf("%d GPUs, want %d", gpus, tc.gpus)
			}
		})
	}
}

func TestHostVolumes(t *testing.T) {
	mounts := []*api.VolumeMount{
		{Volume: new("models"), ReadOnly: new(true)},
		{Volume: new("models")},
		{Volume: new("data"), ReadOnly: new(true)},
		nil,
		{},
	}
	want := map[string]*api.VolumeRequest{
		"models": {Name: "models", Type: "host", Source: "models"},
		"data":   {Name: "data", Type: "host", Source: "data", ReadOnly: true},
	}
	if diff := cmp.Diff(want, hostVolumes(mounts)); diff != "" {
		t.Error(diff)
	}
}
