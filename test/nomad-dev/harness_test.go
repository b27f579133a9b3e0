//go:build e2e

package nomaddev_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// cluster is a running cluster under test.
type cluster = *nomaddev.Cluster

// agentsOnly is a cluster without serve-nomad. Its agents keep their state, so
// that they can be restarted.
func agentsOnly() nomaddev.ClusterOptions { return nomaddev.ClusterOptions{} }

// serving is a cluster with so many servers and proxies of the program that is
// built from this repository.
func serving(t *testing.T, servers, proxies int) nomaddev.ClusterOptions {
	t.Helper()
	return nomaddev.ClusterOptions{
		Binary:  serveNomad(t),
		Servers: make([]nomaddev.ServerPorts, servers),
		Proxies: make([]nomaddev.ProxyPorts, proxies),
	}
}

// startCluster starts a cluster on ports and in a folder of its own. It ends
// with the test, and its logs are shown when the test fails.
func startCluster(t *testing.T, o nomaddev.ClusterOptions) cluster {
	t.Helper()
	o.Agents = agents(t)
	if o.Dir == "" {
		o.Dir = runDir(t)
	}
	o.Note = func(text string) { t.Log(text) }
	c, err := nomaddev.StartCluster(t.Context(), o)
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, c.Dir)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if serr := c.Stop(ctx); serr != nil {
			t.Errorf("stop the cluster: %v", serr)
		}
		if !t.Failed() {
			if rerr := nomaddev.RemoveData(c.Dir); rerr != nil {
				t.Error(rerr)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// agents returns the agents' programs. They are needed: without them the test
// fails.
func agents(t *testing.T) nomaddev.Agents {
	t.Helper()
	found, err := nomaddev.Find(t.Context(), nomaddev.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var build struct {
	sync.Once
	path string
	err  error
}

// serveNomad builds serve-nomad once per test process. SERVE_NOMAD_BIN names
// one that is built already.
func serveNomad(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SERVE_NOMAD_BIN"); path != "" {
		return path
	}
	build.Do(func() {
		build.path = filepath.Join(testRoot(), "bin-"+strconv.Itoa(os.Getpid()), "serve-nomad")
		cmd := exec.Command("go", "build", "-race", "-o", build.path, "github.com/serve-nomad/serve-nomad/cmd/serve-nomad")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatalf("build serve-nomad: %v", build.err)
	}
	return build.path
}

// testRoot is where the runs of all tests of this user lie. It is short, because
// Nomad makes sockets below.
func testRoot() string {
	return filepath.Join(os.TempDir(), "serve-nomad-e2e-"+strconv.Itoa(os.Getuid()))
}

// runDir makes a run folder that names the process that uses it, so that the
// next one can end what a killed test process left.
func runDir(t *testing.T) string {
	t.Helper()
	if err := os.MkdirAll(testRoot(), 0o755); err != nil {
		t.Fatal(err)
	}
	sweep(t)
	//nolint:usetesting // t.TempDir's paths are too long for Nomad's sockets, and go before the processes do
	dir, err := os.MkdirTemp(testRoot(), "run-"+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	owner := []byte(nomaddev.Identity(os.Getpid()))
	if err = nomaddev.WriteFile(filepath.Join(dir, "owner"), owner); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sweep ends and removes the runs whose test process is gone.
func sweep(t *testing.T) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(testRoot(), "*-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		pid, err := strconv.Atoi(strings.Split(filepath.Base(dir), "-")[1])
		if err != nil {
			continue
		}
		owner, err := os.ReadFile(filepath.Join(dir, "owner"))
		alive := nomaddev.Identity(pid)
		if alive != "" && (err != nil || alive == string(owner)) {
			continue
		}
		if _, err = nomaddev.Cleanup(t.Context(), dir); err != nil {
			t.Logf("clean up %s: %v", dir, err)
			continue
		}
		if err = nomaddev.RemoveData(dir); err != nil {
			t.Logf("remove %s: %v", dir, err)
		}
	}
}

func showLogs(t *testing.T, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs {
		t.Logf("the last lines of %s:\n%s", path, nomaddev.LastLines(path, 30))
	}
}

// eventually asks again and again until ask returns nil.
func eventually(t *testing.T, limit time.Duration, what string, ask func() error) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s: %v", limit, what, err)
		case <-tick.C:
		}
	}
}

func do(ctx context.Context, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	}
	return answer, err
}

func tryGet(ctx context.Context, url string) ([]byte, error) {
	return do(ctx, http.MethodGet, url, nil)
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	body, err := tryGet(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func put(t *testing.T, url string, body []byte) []byte {
	t.Helper()
	answer, err := do(t.Context(), http.MethodPut, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// taskPids returns the pids of the tasks that Nomad runs below a run folder.
func taskPids(t *testing.T, c cluster) []int {
	t.Helper()
	var pids []int
	for _, pid := range marked(c.Dir) {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && bytes.Contains(env, []byte("NOMAD_ALLOC_ID=")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// marked returns the processes whose command line or environment names a folder.
func marked(dir string) []int {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	var pids []int
	for _, p := range all {
		pid, err := strconv.Atoi(filepath.Base(p))
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile(p + "/environ")
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if bytes.Contains(append(env, cmdline...), []byte(dir)) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func wantNoProcess(t *testing.T, dir string) {
	t.Helper()
	eventually(t, 5*time.Second, "no process is left", func() error {
		for _, pid := range marked(dir) {
			cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			if err == nil && len(cmdline) > 0 {
				return fmt.Errorf("pid %d is left: %q", pid, cmdline)
			}
		}
		return nil
	})
}

func contains(text, part string) bool { return strings.Contains(text, part) }

// startSecondNomad tries to start another Nomad on the ports of c's.
func startSecondNomad(t *testing.T, c cluster) error {
	t.Helper()
	second, err := nomaddev.StartNomad(t.Context(), nomaddev.NomadOptions{
		RunDir: c.Dir, Name: "second", Path: agents(t).Nomad.Path,
		ConsulAddress: c.Consul.Address(), Ports: c.Nomad.Ports,
	})
	if err == nil {
		second.Kill()
	}
	return err
}
