package raftnode

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		os.Exit(runChild(config))
	}
	// The log file that is cut short makes bbolt panic half-way through opening it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.etcd.io/bbolt.(*DB).freepages.func2"))
}

// patience is how long a condition may take on a busy machine.
const patience = 30 * time.Second

// eventually waits until what is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not after %s: %s", patience, what)
		}
	}
}

// freeAddress returns an address that nobody listens on, below the ports that
// the system gives to outgoing connections.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		var lc net.ListenConfig
		l, err := lc.Listen(t.Context(), "tcp", address)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port")
	return ""
}

// single is the config of a server that is a cluster alone.
func single(t *testing.T) Config {
	t.Helper()
	return Config{
		Name: t.Name(), DataDir: filepath.Join(t.TempDir(), "raft"), Bind: freeAddress(t),
		BootstrapExpect: 1, Logger: testLogger(t),
	}
}

// several are the configs of the servers of one cluster.
func several(t *testing.T, size int) []Config {
	t.Helper()
	var peers []string
	for range size {
		peers = append(peers, freeAddress(t))
	}
	var configs []Config
	for i, address := range peers {
		configs = append(configs, Config{
			Name: fmt.Sprintf("server-%d", i), DataDir: filepath.Join(t.TempDir(), fmt.Sprint(i)),
			Bind: address, Peers: peers, BootstrapExpect: size, Logger: testLogger(t).Named(fmt.Sprint(i)),
		})
	}
	return configs
}

// open opens a server, which is shut down at the end of the test at the latest.
func open(t *testing.T, cfg Config) *Node {
	t.Helper()
	n, err := Open(t.Context(), cfg, raftstate.NewFSM())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(t, n) })
	return n
}

func openAll(t *testing.T, configs []Config) []*Node {
	t.Helper()
	var nodes []*Node
	for _, cfg := range configs {
		nodes = append(nodes, open(t, cfg))
	}
	return nodes
}

func shutdown(t *testing.T, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil {
		t.Errorf("shut down: %v", err)
	}
}

// leaderOf waits until one of nodes leads and can act.
func leaderOf(t *testing.T, nodes ...*Node) *Node {
	t.Helper()
	var leader *Node
	eventually(t, "one of the servers leads", func() bool {
		for _, n := range nodes {
			if n.Term() != 0 {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

func without(nodes []*Node, out *Node) []*Node {
	var rest []*Node
	for _, n := range nodes {
		if n != out {
			rest = append(rest, n)
		}
	}
	return rest
}

// deploy is a command that makes an application of its own.
func deploy(name string) raftstate.Command {
	never := uint64(0)
	spec := &appspec.Application{
		Name: name, RoutePrefix: "/" + name, Ingress: "web",
		Deployments: []*appspec.Deployment{{Name: "web", NumReplicas: 1}},
	}
	return raftstate.Command{ID: "deploy-" + name, At: time.Unix(1, 0).UTC(), Deploy: &raftstate.Deploy{
		Applications: []raftstate.DeployApplication{
			{Spec: spec, Hashes: map[string]string{"web": "1"}, CheckIndex: &never},
		},
	}}
}

// write proposes until some server has applied it.
func write(t *testing.T, name string, nodes ...*Node) raftstate.Result {
	t.Helper()
	var result raftstate.Result
	eventually(t, "a write goes through", func() bool {
		for _, n := range nodes {
			r, err := n.Propose(t.Context(), deploy(name))
			if err == nil {
				result = r
				return true
			}
		}
		return false
	})
	if result.Err() != nil {
		t.Fatalf("write %s: %v", name, result.Err())
	}
	return result
}

func has(n *Node, name string) bool { return n.State().Applications[name] != nil }

func encoded(t *testing.T, n *Node) string {
	t.Helper()
	var b bytes.Buffer
	if err := raftstate.EncodeSnapshot(&b, n.State()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// testLogger writes to the test's log with RAFTNODE_TEST_LOG set.
func testLogger(t *testing.T) hclog.Logger {
	t.Helper()
	if os.Getenv("RAFTNODE_TEST_LOG") == "" {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: os.Stderr})
}
