package nodepool

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	nomadMembers = `{"ServerRegion": "eu", "Members": [
		{"Addr": "127.0.0.1", "Status": "alive", "Tags": {"role": "nomad", "region": "eu", "rpc_addr": "127.0.0.2", "port": "4647"}},
		{"Addr": "127.0.0.1", "Status": "alive", "Tags": {"role": "nomad", "region": "eu", "port": "4650"}},
		{"Addr": "127.0.0.3", "Status": "failed", "Tags": {"role": "nomad", "region": "eu", "port": "4647"}},
		{"Addr": "127.0.0.4", "Status": "alive", "Tags": {"role": "nomad", "region": "us", "port": "4647"}}]}`
	consulMembers = `[
		{"Addr": "127.0.0.1", "Port": 8301, "Status": 1, "Tags": {"role": "consul", "dc": "rack"}},
		{"Addr": "127.0.0.2", "Port": 8301, "Status": 4, "Tags": {"role": "consul", "dc": "rack"}},
		{"Addr": "127.0.0.3", "Port": 8301, "Status": 1, "Tags": {"role": "node", "dc": "rack"}}]`
)

func TestJoinAsksTheServersOwnAgents(t *testing.T) {
	for name, c := range map[string]struct {
		nomad, consul string
		config        ProcessConfig
		want, wrong   string
	}{
		"asked": {
			nomad: nomadMembers, consul: consulMembers,
			want: "127.0.0.1:4650,127.0.0.2:4647 eu 127.0.0.1:8301 rack 127.0.0.1",
		},
		"configured": {
			config: ProcessConfig{NomadServers: []string{"127.0.0.9:1"}, Region: "x", ConsulServers: []string{"127.0.0.9:2"}, ConsulDatacenter: "y"},
			want:   "127.0.0.9:1 x 127.0.0.9:2 y 127.0.0.1",
		},
		"servers are configured": {
			nomad: nomadMembers, consul: consulMembers,
			config: ProcessConfig{NomadServers: []string{"127.0.0.9:1"}, ConsulServers: []string{"127.0.0.9:2"}},
			want:   "127.0.0.9:1 eu 127.0.0.9:2 rack 127.0.0.1",
		},
		"region is configured": {
			nomad: nomadMembers, consul: consulMembers, config: ProcessConfig{Region: "us"},
			want: "127.0.0.4:4647 us 127.0.0.1:8301 rack 127.0.0.1",
		},
		"no Nomad server":      {nomad: `{"Members": []}`, wrong: "names none that is alive"},
		"no Consul server":     {nomad: nomadMembers, consul: `[]`, wrong: "names none that is alive"},
		"another datacenter":   {nomad: nomadMembers, consul: consulMembers, config: ProcessConfig{ConsulDatacenter: "z"}, wrong: "names none that is alive"},
		"Nomad is not allowed": {nomad: "403 Permission denied", wrong: "answers 403: Permission denied"},
		"Nomad is no JSON":     {nomad: "<html>", wrong: "invalid character"},
		"no address of Nomad's": {
			nomad: nomadMembers, consul: consulMembers,
			config: ProcessConfig{NomadAddr: " "}, wrong: "find Nomad's servers",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nomad, consul := agentThatSays(t, c.nomad, "X-Nomad-Token"), agentThatSays(t, c.consul, "X-Consul-Token")
			if c.config.NomadAddr == "" {
				c.config.NomadAddr = nomad.URL + "/"
			}
			c.config.ConsulAddr = strings.TrimPrefix(consul.URL, "http://")
			c.config.NomadToken, c.config.ConsulToken = "secret", "secret"
			p := &processTarget{config: c.config, http: http.DefaultClient, log: hclog.NewNullLogger()}
			j, err := p.join(t.Context())
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("got %+v, %v; want an error that says %q", j, err, c.wrong)
				}
				return
			}
			got := strings.Join([]string{strings.Join(j.nomad, ","), j.region, strings.Join(j.consul, ","), j.datacenter, j.ip}, " ")
			if err != nil || got != c.want || j.device == "" {
				t.Fatalf("got %q on %q, %v; want %q", got, j.device, err, c.want)
			}
		})
	}
}

// agentThatSays answers a text, with the status that it begins with if any, to
// who shows the token.
func agentThatSays(t *testing.T, text, token string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(token) != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		if rest, denied := strings.CutPrefix(text, "403 "); denied {
			w.WriteHeader(http.StatusForbidden)
			text = rest
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestJoinGivesUpWithItsContext(t *testing.T) {
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hung.Close()
	p := &processTarget{config: ProcessConfig{NomadAddr: hung.URL}, http: http.DefaultClient, log: hclog.NewNullLogger()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.join(ctx); err == nil {
		t.Error("a Nomad that hangs has servers")
	}
}
