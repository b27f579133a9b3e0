package nomadjobs

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// fakeVars is the fake's Nomad variables.
type fakeVars struct {
	index   uint64
	byPath  map[string]api.Variable
	refused string // what writes are answered with
	status  int
}

func (f *fakeNomad) serveVars(w http.ResponseWriter, r *http.Request) bool {
	path, one := strings.CutPrefix(r.URL.Path, "/v1/var/")
	if !one && r.URL.Path != "/v1/vars" {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v, there := f.vars.byPath[path]
	switch {
	case !one:
		list := []api.VariableMetadata{}
		for _, path := range slices.Sorted(maps.Keys(f.vars.byPath)) {
			if strings.HasPrefix(path, r.URL.Query().Get("prefix")) {
				list = append(list, api.VariableMetadata{Path: path, ModifyIndex: f.vars.byPath[path].ModifyIndex})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	case r.Method == http.MethodGet && !there:
		http.Error(w, "variable not found", http.StatusNotFound)
	case r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(v)
	case f.vars.refused != "":
		http.Error(w, f.vars.refused, f.vars.status)
	case r.URL.Query().Get("cas") != strconv.FormatUint(v.ModifyIndex, 10):
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(v)
	case r.Method == http.MethodDelete:
		delete(f.vars.byPath, path)
		w.WriteHeader(http.StatusNoContent)
	default:
		f.putVar(r, path)
		_ = json.NewEncoder(w).Encode(f.vars.byPath[path])
	}
	return true
}

func (f *fakeNomad) putVar(r *http.Request, path string) {
	var v api.Variable
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		f.t.Error(err)
	}
	f.vars.index++
	v.ModifyIndex, v.ModifyTime = f.vars.index, int64(f.vars.index)*int64(time.Second)
	if f.vars.byPath == nil {
		f.vars.byPath = map[string]api.Variable{}
	}
	f.vars.byPath[path] = v
}

const configured = "serve-search-ranker-1a2b3c4d"

func writeConfig(hash string, index uint64) reconcile.WriteConfig {
	return reconcile.WriteConfig{JobID: configured, ClusterID: "c1", Config: `{"of":"` + hash + `"}`, Hash: hash, ModifyIndex: index}
}

func TestConfigsAreWhatWasWritten(t *testing.T) {
	f, c := startFake(t)
	f.set(func() {
		f.vars.byPath = map[string]api.Variable{
			"nomad/jobs/serve-mine":         {Path: "nomad/jobs/serve-mine", Items: api.VariableItems{"password": "x"}, ModifyIndex: 100},
			"nomad/jobs/serve-mine/web/web": {Path: "nomad/jobs/serve-mine/web/web", ModifyIndex: 101},
		}
	})
	see := func(want map[string]reconcile.Config) {
		t.Helper()
		got, err := c.Configs(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	}
	see(map[string]reconcile.Config{})
	if err := c.WriteConfig(t.Context(), writeConfig("first", 0)); err != nil {
		t.Fatal(err)
	}
	first := reconcile.Config{ClusterID: "c1", Hash: "first", WrittenAt: time.Unix(1, 0).UTC(), ModifyIndex: 1}
	see(map[string]reconcile.Config{configured: first})
	calls := f.total("GET /v1/var/")
	see(map[string]reconcile.Config{configured: first})
	if more := f.total("GET /v1/var/") - calls; more != 0 {
		t.Errorf("%d variables were read again that had not changed", more)
	}
	if err := c.WriteConfig(t.Context(), writeConfig("second", 1)); err != nil {
		t.Fatal(err)
	}
	see(map[string]reconcile.Config{configured: {ClusterID: "c1", Hash: "second", WrittenAt: time.Unix(2, 0).UTC(), ModifyIndex: 2}})
	f.mu.Lock()
	items := f.vars.byPath["nomad/jobs/"+configured].Items
	f.mu.Unlock()
	if items["config"] != `{"of":"second"}` {
		t.Errorf("the variable holds %v", items)
	}
	if err := c.DropConfig(t.Context(), reconcile.DropConfig{JobID: configured, ModifyIndex: 2}); err != nil {
		t.Fatal(err)
	}
	see(map[string]reconcile.Config{})
	if err := c.DropConfig(t.Context(), reconcile.DropConfig{JobID: configured, ModifyIndex: 2}); err != nil {
		t.Errorf("dropped again: %v", err)
	}
}

func TestConfigsAreCheckedAndSet(t *testing.T) {
	f, c := startFake(t)
	if err := c.WriteConfig(t.Context(), writeConfig("first", 0)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"write of a new one": c.WriteConfig(t.Context(), writeConfig("second", 0)),
		"write over another": c.WriteConfig(t.Context(), writeConfig("second", 7)),
		"drop of another":    c.DropConfig(t.Context(), reconcile.DropConfig{JobID: configured, ModifyIndex: 7}),
	} {
		if !errors.Is(err, ErrConflict) || strings.Contains(err.Error(), "did not write") {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.set(func() {
		f.vars.byPath["nomad/jobs/"+configured] = api.Variable{Items: api.VariableItems{"password": "x"}, ModifyIndex: 3}
	})
	err := c.WriteConfig(t.Context(), writeConfig("second", 0))
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "nomad/jobs/"+configured+" that serve-nomad did not write") {
		t.Errorf("over a stranger's: %v", err)
	}
}

func TestAConfigThatSomebodyChangedHasNoHash(t *testing.T) {
	f, c := startFake(t)
	if err := c.WriteConfig(t.Context(), writeConfig("first", 0)); err != nil {
		t.Fatal(err)
	}
	f.set(func() {
		v := f.vars.byPath["nomad/jobs/"+configured]
		v.Items["config"], v.ModifyIndex = `{"of":"somebody"}`, 9
		f.vars.byPath["nomad/jobs/"+configured] = v
	})
	got, err := c.Configs(t.Context())
	if config := got[configured]; err != nil || config.Hash != "" || config.ClusterID != "c1" || config.ModifyIndex != 9 {
		t.Errorf("got %+v, %v", config, err)
	}
}

func TestWhyAConfigCannotBeWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		says   string
		want   []string
		is     error
	}{
		"the token":   {403, "Permission denied", []string{"write the user_config of job " + configured, "Permission denied", `path "nomad/jobs/serve-*"`}, ErrForbidden},
		"the keyring": {500, "no such key \"x\" in keyring", []string{"no such key"}, nil},
		"the size":    {400, "variables are limited to 64KiB in total size", []string{"64KiB"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, c := startFake(t)
			f.set(func() { f.vars.refused, f.vars.status = tc.says, tc.status })
			err := c.WriteConfig(t.Context(), writeConfig("first", 0))
			for _, want := range tc.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
		})
	}
}

func TestConfigsThatCannotBeReadAreAnError(t *testing.T) {
	f, c := startFake(t)
	if err := c.WriteConfig(t.Context(), writeConfig("first", 0)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/vars", "/v1/var/"} {
		f.set(func() { f.broken = path })
		if got, err := c.Configs(t.Context()); err == nil {
			t.Errorf("with %s broken: %v", path, got)
		}
	}
}

func TestWhenAReplicaStartedAndWasSignalled(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0).UTC() }
	event := func(kind, message string, second int64) *api.TaskEvent {
		return &api.TaskEvent{Type: kind, DisplayMessage: message, Time: second * int64(time.Second)}
	}
	r := replica(&api.AllocationListStub{ID: "a", TaskStates: map[string]*api.TaskState{"web": {
		StartedAt: at(5),
		Events: []*api.TaskEvent{
			event(api.TaskStarted, "Task started by client", 5), event(api.TaskSignaling, "Template re-rendered", 7),
			event(api.TaskSignaling, "Template re-rendered", 9), event(api.TaskSignaling, "User requested task to be signaled", 11),
		},
	}}})
	if !r.StartedAt.Equal(at(5)) || !r.SignalledAt.Equal(at(9)) {
		t.Errorf("started at %v, signalled at %v", r.StartedAt, r.SignalledAt)
	}
	if r = replica(&api.AllocationListStub{ID: "a"}); !r.StartedAt.IsZero() || !r.SignalledAt.IsZero() {
		t.Errorf("one that never ran: %+v", r)
	}
}
