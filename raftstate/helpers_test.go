package raftstate

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// spec is an application with the named deployments, one replica each.
func spec(name string, deployments ...string) *appspec.Application {
	a := &appspec.Application{Name: name, RoutePrefix: "/" + name}
	for _, d := range deployments {
		a.Deployments = append(a.Deployments, &appspec.Deployment{
			Name: d, NumReplicas: 1, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
			Task: &api.Task{Driver: "raw_exec", Config: map[string]any{"command": "/bin/" + d}},
		})
	}
	if len(deployments) > 0 {
		a.Ingress = deployments[0]
	}
	return a
}

// hashes gives every deployment of a the version "<deployment>-<suffix>".
func hashes(a *appspec.Application, suffix string) map[string]string {
	m := map[string]string{}
	for _, d := range a.Deployments {
		if d != nil {
			m[d.Name] = d.Name + "-" + suffix
		}
	}
	return m
}

func deploy(a *appspec.Application, suffix string) Command {
	return deployIf(a, suffix, nil)
}

func deployIf(a *appspec.Application, suffix string, index *uint64) Command {
	return Command{By: "ada", Deploy: &Deploy{Applications: []DeployApplication{
		{Spec: a, Hashes: hashes(a, suffix), CheckIndex: index},
	}}}
}

func scale(app, deployment string, replicas int) Command {
	return Command{By: "ada", Scale: &Scale{Application: app, Deployment: deployment, Replicas: replicas}}
}

// scaling is an application whose deployment "web" scales by itself.
func scaling(name string, least, most int, change ...func(*appspec.Autoscaling)) *appspec.Application {
	a := spec(name, "web")
	block := &appspec.Autoscaling{Policy: appspec.PolicyRay, MinReplicas: least, MaxReplicas: most}
	for _, c := range change {
		c(block)
	}
	a.Deployments[0].Autoscaling, a.Deployments[0].NumReplicas = block, 0
	a.Complete()
	return a
}

func initially(replicas int) func(*appspec.Autoscaling) {
	return func(a *appspec.Autoscaling) { a.InitialReplicas = &replicas }
}

func external(a *appspec.Autoscaling) { a.Policy = appspec.PolicyExternal }

func scheduled(least, most int) func(*appspec.Autoscaling) {
	return func(a *appspec.Autoscaling) {
		a.Schedules = append(a.Schedules, &appspec.Schedule{Name: "day", MinReplicas: &least, MaxReplicas: &most})
	}
}

func change(app, deployment string, from, to int) AutoscaleChange {
	return AutoscaleChange{Application: app, Deployment: deployment, From: from, To: to, Reason: "12 requests"}
}

func autoscale(changes ...AutoscaleChange) Command {
	return Command{By: "controller", Autoscale: &Autoscale{Changes: changes}}
}

func remove(app string) Command { return Command{Delete: &Delete{Application: app}} }

func forget(app string) Command { return Command{Forget: &Forget{Application: app}} }

func end(app string, version int, status RolloutStatus) Command {
	return Command{EndRollout: &EndRollout{Application: app, Version: version, Status: status, Reason: "seen"}}
}

// at gives the command at place i of a log its time and, unless it has one,
// its id.
func at(i int, c Command) Command {
	c.At = time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC)
	if c.ID == "" {
		c.ID = fmt.Sprintf("command-%d", i)
	}
	return c
}

func entry(tb testing.TB, index uint64, c Command) *raft.Log {
	tb.Helper()
	data, err := Encode(c)
	if err != nil {
		tb.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: data}
}

// applyEntry applies c as Raft does and returns its Result.
func applyEntry(tb testing.TB, f *FSM, index uint64, c Command) Result {
	tb.Helper()
	r, ok := f.Apply(entry(tb, index, c)).(Result)
	if !ok {
		tb.Fatal("Apply returned something else than a Result")
	}
	return r
}

func encoded(tb testing.TB, s *State) string {
	tb.Helper()
	var b bytes.Buffer
	if err := EncodeSnapshot(&b, s); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func restored(tb testing.TB, s *State) *State {
	tb.Helper()
	got, err := DecodeSnapshot(bytes.NewBufferString(encoded(tb, s)))
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func splitLines(data []byte) [][]byte {
	return bytes.Split(bytes.TrimSpace(data), []byte("\n"))
}

// The same for rapid, whose T is not a testing.TB.

func entryIn(t *rapid.T, index uint64, c Command) *raft.Log {
	data, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: data}
}

func encodedIn(t *rapid.T, s *State) string {
	var b bytes.Buffer
	if err := EncodeSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func appsIn(t *rapid.T, s *State) string {
	return encodedIn(t, &State{Applications: s.Applications, Events: s.Events})
}

func restoredFSM(t *rapid.T, f *FSM) *FSM {
	g := NewFSM()
	if err := g.Restore(io.NopCloser(bytes.NewBufferString(encodedIn(t, f.State())))); err != nil {
		t.Fatal(err)
	}
	return g
}
