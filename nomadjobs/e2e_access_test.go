//go:build e2e

package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/reconcile"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

const aclConfig = `
data_dir  = %q
bind_addr = "127.0.0.1"
ports {
  http = %d
  rpc  = %d
  serf = %d
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
server {
  enabled          = true
  bootstrap_expect = 1
}
acl {
  enabled = true
}
consul {
  address = "127.0.0.1:1"
}
`

// TestE2EAccess looks at a Nomad that asks for tokens.
func TestE2EAccess(t *testing.T) {
	e2eClient(t)
	found, err := nomaddev.Find(t.Context(), nomaddev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir, port := filepath.Join(agents.cluster.Dir, "acl"), freePort(t)
	e2eAgent(t, found.Nomad.Path, dir, "acl", fmt.Sprintf(aclConfig, filepath.Join(dir, "data"), port, freePort(t), freePort(t)))
	address := fmt.Sprintf("http://127.0.0.1:%d", port)
	manager := e2eManager(t, address)
	connect := func(rules ...string) *Client {
		t.Helper()
		token := &api.ACLToken{Name: "test", Type: "client"}
		for i, r := range rules {
			name := fmt.Sprintf("p%d-%d", i, time.Now().UnixNano())
			if _, err := manager.nomad.ACLPolicies().Upsert(&api.ACLPolicy{Name: name, Rules: r}, nil); err != nil {
				t.Fatal(err)
			}
			token.Policies = append(token.Policies, name)
		}
		made, _, err := manager.nomad.ACLTokens().Create(token, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(Config{Address: address, Token: made.SecretID}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const own, pools = `namespace "default" { policy = "write" } `, ` node_pool "*" { policy = "write" } `
	for _, tc := range []struct {
		rules []string
		lacks string // what the error names; "": there is none
	}{
		{[]string{own + pools + writeNodes, readAllJobs}, ""},
		{[]string{own + pools + writeNodes, `namespace "*" { policy = "read" }`, `namespace "secret" { policy = "deny" }`}, `"secret"`},
		{[]string{own + pools + writeNodes}, readAllJobs},
		{[]string{own + pools + writeNodes, `namespace "*" { capabilities = ["list-jobs"] }`}, readAllJobs},
		{[]string{own + pools, readAllJobs}, readNodes},
		{[]string{own + writeNodes, readAllJobs}, readPools},
	} {
		_, err := connect(tc.rules...).Observe(t.Context(), true)
		if tc.lacks == "" && err != nil || tc.lacks != "" && (!errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), tc.lacks)) {
			t.Errorf("%q: %v", tc.rules, err)
		}
	}
	if _, err := manager.Observe(t.Context(), true); err != nil {
		t.Error(err)
	}

	reader := connect(own+readNodes+` node_pool "*" { policy = "read" }`, readAllJobs)
	pool := reconcile.WritePool{Name: "gpu", Description: "of worker group gpu"}
	if err := reader.WritePool(t.Context(), pool); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), writePools) {
		t.Errorf("write a pool without the right to: %v", err)
	}
	if err := reader.Purge(t.Context(), "00000000-0000-0000-0000-000000000000"); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), writeNodes) {
		t.Errorf("purge a node without the right to: %v", err)
	}
	config := reconcile.WriteConfig{JobID: "serve-a-b-00000001", ClusterID: "c1", Config: "{}", Hash: "h"}
	if err := reader.WriteConfig(t.Context(), config); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), writeConfigs) {
		t.Errorf("write a user_config without the right to: %v", err)
	}
	writer := connect(`namespace "default" { variables { path "nomad/jobs/serve-*" { capabilities = ["list", "read", "write", "destroy"] } } }`)
	if err := writer.WriteConfig(t.Context(), config); err != nil {
		t.Error(err)
	}
	if seen, err := writer.Configs(t.Context()); err != nil || seen[config.JobID].Hash != "h" {
		t.Errorf("the user_configs are %v, %v", seen, err)
	}
	if seen, err := reader.Configs(t.Context()); err != nil || len(seen) > 0 {
		t.Errorf("without the right to list, the user_configs are %v, %v", seen, err)
	}
	// Node pools wake only those who may be told of them; the rest is told all else.
	tick(t, reader.Wake(t.Context()), "on connecting without the right to be told of pools")
	wake := manager.Wake(t.Context())
	tick(t, wake, "on connecting")
	if err := manager.WritePool(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	tick(t, wake, "on a new pool")
	if _, err := manager.nomad.NodePools().Delete("gpu", nil); err != nil {
		t.Fatal(err)
	}
	tick(t, wake, "on a pool that is deleted")
}

// e2eManager waits until the agent at address has a leader and returns a client
// with its first token.
func e2eManager(t *testing.T, address string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := New(Config{Address: address}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		token, _, err := c.nomad.ACLTokens().Bootstrap((&api.WriteOptions{}).WithContext(ctx))
		if err == nil {
			c.nomad.SetSecretID(token.SecretID)
			return c
		}
		if !sleep(ctx, 200*time.Millisecond) {
			t.Fatalf("no leader: %v", err)
		}
	}
}
