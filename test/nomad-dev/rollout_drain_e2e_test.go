//go:build e2e

package nomaddev_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Somebody drains the node with the most replicas in Nomad while a version takes
// over from another: the rollout goes on elsewhere, and no request is lost.
func TestNodeDrainedDuringARollout(t *testing.T) {
	t.Parallel() // it waits more than it computes
	s := newShaped(t)
	for i, c := range []struct {
		rollout string
		stage   string // in which the drain begins
	}{
		{"strategy = \"canary\"\nsteps = [20]\ninterval = \"10s\"", "20 percent"},
		{"strategy = \"rolling\"\nbake_time = \"10s\"", "first replicas"},
	} {
		version := i + 2
		file := filepath.Join(t.TempDir(), "app.hcl")
		if err := os.WriteFile(file, []byte(s.application(fmt.Sprint("version ", version), c.rollout)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, code := s.cli(0, "deploy", "-detach", file); code != 0 {
			t.Fatalf("exit code %d\n%s", code, out)
		}
		s.until(c.stage, func(a reconcile.ApplicationStatus) bool { return a.Version == version && a.Stage == c.stage })
		node := s.fullest()
		s.nomadDo(t, http.MethodPut, "/v1/node/"+node.NomadID+"/drain", `{"DrainSpec": {"Deadline": 120000000000}}`)
		began := time.Now()
		s.until("the new version serves alone, elsewhere", func(a reconcile.ApplicationStatus) bool {
			return a.Status == reconcile.Healthy && a.ServingVersion == version && a.Version == version && len(a.Leaving) == 0 && healthyOf(a) == 4 &&
				!slices.ContainsFunc(a.Deployments, func(d reconcile.DeploymentStatus) bool {
					return slices.ContainsFunc(d.Replicas, func(r reconcile.ReplicaInfo) bool { return r.Node == node.Name })
				})
		})
		t.Logf("%s: version %d serves alone %s after the drain of a node with %d replicas began", c.stage, version, ms(time.Since(began)), node.Replicas)
		s.nomadDo(t, http.MethodPut, "/v1/node/"+node.NomadID+"/drain", `{"DrainSpec": null, "MarkEligible": true}`)
	}
	s.load.goesOn(t, time.Second)
	s.load.wantNoneLost(t)
	t.Logf("%d requests, %d streams among them", s.load.sent, s.load.streams)
}

// fullest is the node with the most replicas.
func (s *shaped) fullest() nodescale.NodeReport {
	s.t.Helper()
	var node nodescale.NodeReport
	eventually(s.t, 30*time.Second, "a node has replicas", func() error {
		by, err := s.nodeList(0)
		if err != nil {
			return err
		}
		for _, n := range by[raftstate.NodeReady] {
			if n.Replicas > node.Replicas {
				node = n
			}
		}
		if node.Replicas == 0 {
			return fmt.Errorf("%+v", by)
		}
		return nil
	})
	return node
}
