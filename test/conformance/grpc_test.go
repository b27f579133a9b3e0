//go:build conformance

package conformance

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// interopRuns is how often each case runs: one that fails now and then is one
// that fails.
const interopRuns = 30

// TestGRPCInterop runs the published client cases that need no credentials
// against the published server, through the proxy. pick_first_unary and the two
// of ORCA are left out: the published server does not pass them itself.
func TestGRPCInterop(t *testing.T) {
	server, client := tool(t, "google.golang.org/grpc/interop/server"), tool(t, "google.golang.org/grpc/interop/client")
	a := application{name: "root", prefix: "/", ongoing: 100, queued: -1, replicas: []string{interopServer(t, server)}}
	view := viewOf(a)
	d := view.Table["root"].Deployments["root"]
	d.Protocol = routes.ProtocolGRPC
	view.Table["root"].Deployments["root"] = d
	r := start(t, view)
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
		"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
		"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service",
	} {
		t.Run(name, func(t *testing.T) {
			failures := 0
			for range interopRuns {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				out, err := exec.CommandContext(ctx, client, "-server_host", host, "-server_port", port, "-test_case", name).CombinedOutput()
				cancel()
				if err != nil {
					failures++
					t.Logf("%v: %s", err, out)
				}
			}
			if failures > 0 {
				t.Errorf("%d of %d runs failed", failures, interopRuns)
			}
			r.waitIdle(t)
		})
	}
}

// interopServer runs the published server until the test ends.
func interopServer(t *testing.T, program string) (address string) {
	t.Helper()
	l := listen(t)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-port", strconv.Itoa(port))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = cmd.Wait() }) // it is killed
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if t.Failed() {
			t.Logf("the interop server said:\n%s", out.Bytes())
		}
	})
	address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	eventually(t, "the interop server listens", func() bool {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	return address
}
