package nodepool

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

func TestNomadView(t *testing.T) {
	nomad := newFakeNomad(t)
	nomad.add("a")
	nomad.add("b", "draining")
	client, err := newNomadAPI(PluginConfig{NomadAddress: nomad.server.URL, NomadToken: "nomad's own", NomadRegion: "eu"})
	ok(t, err)
	view, err := newNomadView(client, hclog.NewNullLogger())
	ok(t, err)
	defer view.close()
	node, err := client.node(t.Context(), "node-b")
	ok(t, err)

	steps := []struct {
		method, path string
		code         int
		has, hasNot  string
	}{
		{"GET", "/v1/nodes", 200, "[]", "node-"},
		{"GET", "/v1/node/node-b", 404, "", ""},
		{"PUT", "/v1/node/node-b/drain", 404, "", ""},
		{"show", "", 0, "", ""},
		{"GET", "/v1/nodes?resources=true", 200, "node-b", "node-a"},
		{"GET", "/v1/node/node-b", 200, `"DrainStrategy":null`, `"Drain":true`},
		{"GET", "/v1/node/node-a", 404, "", ""},
		{"GET", "/v1/node/node-b/allocations", 200, "[]", ""},
		{"PUT", "/v1/node/node-a/drain", 404, "", ""},
		{"GET", "/v1/node/node-b/drain", 404, "", ""},
		{"GET", "/v1/regions", 200, "global", ""},
		{"PUT", "/v1/jobs", 403, "changes nothing", ""},
		{"DELETE", "/v1/job/web", 403, "changes nothing", ""},
		{"PUT", "/v1/node/node-b/eligibility", 200, "", ""},
	}
	for _, s := range steps {
		if s.method == "show" {
			view.show(node)
			continue
		}
		code, body := callView(t, view, s.method, s.path, view.secret)
		if code != s.code || !strings.Contains(body, s.has) || s.hasNot != "" && strings.Contains(body, s.hasNot) {
			t.Errorf("%s %s: %d %s", s.method, s.path, code, body)
		}
	}
	if view.hide() {
		t.Error("a node that was not drained counts as chosen")
	}
	view.show(node)
	callView(t, view, "PUT", "/v1/node/node-b/drain", view.secret)
	if !view.hide() {
		t.Error("a node that was drained does not count as chosen")
	}
	if _, body := callView(t, view, "GET", "/v1/nodes", view.secret); strings.TrimSpace(body) != "[]" {
		t.Errorf("after the removal there is %s", body)
	}
	for _, token := range []string{"", "nomad's own", view.secret[1:]} {
		if code, body := callView(t, view, "GET", "/v1/regions", token); code != http.StatusForbidden {
			t.Errorf("with token %q: %d %s", token, code, body)
		}
	}
	if nomad.writes() != 0 {
		t.Error("a write got through to Nomad")
	}
}

func callView(t *testing.T, v *nomadView, method, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, v.address+path, nil)
	ok(t, err)
	req.Header.Set("X-Nomad-Token", token)
	resp, err := http.DefaultClient.Do(req)
	ok(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ok(t, err)
	return resp.StatusCode, string(body)
}

func TestPluginEnv(t *testing.T) {
	got := pluginEnv([]string{
		"AWS_PROFILE=a", "NOMAD_TOKEN=x", "NOMAD_ADDR=x", "CONSUL_HTTP_TOKEN=x", "SERVE_NOMAD_TOKEN=x", "NOMAD_ALLOC_ID=1", "PATH=/bin", "=odd",
	})
	if want := []string{"AWS_PROFILE=a", "NOMAD_ALLOC_ID=1", "PATH=/bin", "=odd"}; !slices.Equal(got, want) {
		t.Errorf("environment is %q, want %q", got, want)
	}
}

func TestPluginSettings(t *testing.T) {
	got := pluginSettings(nodescale.Blueprint{NodePool: "gpu", Config: map[string]string{
		"nomad_token": "x", "nomad_address": "x", "node_purge": "true", "retry_attempts": "9", "region": "eu", "node_class": "own",
	}})
	for key, want := range map[string]string{
		"nomad_token": "", "nomad_address": "", "node_purge": "false", "retry_attempts": "9", "region": "eu", "node_class": "own", "node_pool": "gpu",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestPluginSettingsDefaults(t *testing.T) {
	got := pluginSettings(nodescale.Blueprint{NodePool: "gpu", Class: "h100"})
	for key, want := range map[string]string{"retry_attempts": "1", "node_pool": "gpu", "node_class": "h100", "node_filter_ignore_init": "true"} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
}

func TestDecodeStatus(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ready, count := rapid.Bool().Draw(t, "ready"), rapid.Int64().Draw(t, "count")
		message := appendMap(nil, 3, map[string]string{"nomad_autoscaler.last_event": "1"})
		message = protowire.AppendTag(message, 1, protowire.VarintType)
		message = protowire.AppendVarint(message, protowire.EncodeBool(ready))
		message = protowire.AppendTag(message, 2, protowire.VarintType)
		message = protowire.AppendVarint(message, uint64(count))
		message = protowire.AppendTag(message, 9, protowire.Fixed32Type) // of a later version
		message = protowire.AppendFixed32(message, 7)
		got, err := decodeStatus(message)
		switch possible := count >= 0 && count <= maxPluginCount; {
		case possible && (err != nil || got != pluginStatus{ready: ready, count: int(count)}):
			t.Errorf("got %+v, %v", got, err)
		case !possible && err == nil:
			t.Errorf("a count of %d was taken for one", count)
		}
		if _, err = decodeStatus(message[:len(message)-1]); err == nil {
			t.Error("a message that was cut off was taken for whole")
		}
	})
}

func FuzzDecodeStatus(f *testing.F) {
	f.Add([]byte{8, 1, 16, 3})
	f.Fuzz(func(t *testing.T, message []byte) {
		got, err := decodeStatus(message)
		if err == nil && (got.count < 0 || got.count > maxPluginCount) {
			t.Errorf("count %d", got.count)
		}
	})
}

func TestPluginNode(t *testing.T) {
	nomad := newFakeNomad(t)
	nomad.add("a")
	nomad.nodes["b"] = map[string]any{"ID": "another"}
	nomad.nodes["c"] = map[string]any{"ID": 7}
	client, err := newNomadAPI(PluginConfig{NomadAddress: nomad.server.URL, NomadToken: "nomad's own"})
	ok(t, err)
	stranger, err := newNomadAPI(PluginConfig{NomadAddress: nomad.server.URL})
	ok(t, err)
	_, err = stranger.node(t.Context(), "node-a")
	wantError(t, err, "403", "Permission denied")
	node, err := client.node(t.Context(), "node-gone")
	if node != nil || err != nil {
		t.Errorf("a node that Nomad does not know: %v, %v", node, err)
	}
	_, err = client.node(t.Context(), "node-b")
	wantError(t, err, `node "another"`)
	_, err = client.node(t.Context(), "node-c")
	wantError(t, err, "read node node-c")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client.node(ctx, "node-a")
	wantError(t, err, "canceled")
}
