package gate

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func endpoint(id, address string) routes.Endpoint {
	return routes.Endpoint{Replica: id, Application: "app", Deployment: "main", Version: "v1", Address: address, Passing: true}
}

// eventually waits for a condition.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			tb.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}
