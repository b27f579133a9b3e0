package proxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// TestNoQueueIsNeededToAskForASlot has no request be allowed to wait, of a
// replica whose slots another proxy hands out.
func TestNoQueueIsNeededToAskForASlot(t *testing.T) {
	c := countedReplicas(t, 4, 20*time.Millisecond)
	_, own := newKeeper(t, "keeper", "127.0.0.1:0")
	k, _ := newKeeper(t, "p", "")
	r := start(t, keptView(app{ongoing: 4, queued: 0, addresses: c.addresses}, own), withSlots(k))
	eventually(t, "the gatekeeper can be asked", func() bool { return k.Status().Asks[0].Connected })
	r.waitIdle(t)
	got := make(chan string, 16)
	for range cap(got) {
		go func() {
			res, err := r.client.Get(r.url + "/app/x")
			if err != nil {
				got <- err.Error()
				return
			}
			_ = res.Body.Close()
			got <- res.Status + " " + res.Header.Get(errorHeader)
		}()
	}
	for range cap(got) {
		if s := <-got; s != "200 OK " {
			t.Error(s)
		}
	}
}

// TestARefusalIsNotAskedAgainAtOnce has the gatekeeper know of a lower limit than
// the proxy.
func TestARefusalIsNotAskedAgainAtOnce(t *testing.T) {
	release := make(chan struct{})
	address := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) { <-release })
	_, own := newKeeper(t, "keeper", "127.0.0.1:0")
	k, _ := newKeeper(t, "p", "")
	a := app{ongoing: 3, queued: -1, addresses: []string{address}}
	r := start(t, keptView(a, own), withSlots(k))
	lower, _ := newKeeper(t, "lower", "")
	eventually(t, "the gatekeeper can be asked", func() bool { return k.Status().Asks[0].Connected })
	a.ongoing = 1
	start(t, keptView(a, own), withSlots(lower))
	eventually(t, "the gatekeeper can be asked", func() bool { return lower.Status().Asks[0].Connected })
	ended := make(chan struct{}, 2)
	for range cap(ended) {
		go func() {
			if res, err := r.client.Get(r.url + "/app/x"); err == nil {
				_ = res.Body.Close()
			}
			ended <- struct{}{}
		}()
	}
	eventually(t, "one waits", func() bool {
		ongoing, queued := r.load()
		return ongoing == 1 && queued == 1
	})
	eventually(t, "nothing is asked any more", func() bool {
		for range 20 {
			if r.Status().Deployments[0].Asked > 0 {
				return false
			}
		}
		return true
	})
	close(release)
	<-ended
	<-ended
}

// TestNobodyWaitsAtAGatekeeperThatHadNoSlot has two of them be told of a request
// that waits: when one has served it, the other does not go on counting it.
func TestNobodyWaitsAtAGatekeeperThatHadNoSlot(t *testing.T) {
	two, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this machine has no 127.0.0.2: %v", err)
	}
	releases := map[string]chan struct{}{"first": make(chan struct{}), "second": make(chan struct{})}
	busy := make(chan string, 3)
	serve := func(name string) http.HandlerFunc {
		return func(http.ResponseWriter, *http.Request) { busy <- name; <-releases[name] }
	}
	second := httptest.NewUnstartedServer(serve("second"))
	_ = second.Listener.Close()
	second.Listener = two
	second.Start()
	t.Cleanup(second.Close)
	_, own1 := newKeeper(t, "keeper1", "127.0.0.1:0")
	_, own2 := newKeeper(t, "keeper2", "127.0.0.2:0")
	v := app{ongoing: 1, queued: -1, addresses: []string{replicaServer(t, serve("first")), two.Addr().String()}}.view()
	v.Gatekeepers = []routes.Gatekeeper{{Address: own1, Passing: true}, {Address: own2, Passing: true}}
	onlyFirst, onlySecond := v, v
	onlyFirst.Endpoints, onlySecond.Endpoints = v.Endpoints[:1], v.Endpoints[1:]

	k, _ := newKeeper(t, "p", "")
	k1, _ := newKeeper(t, "o1", "")
	other, _ := newKeeper(t, "o2", "")
	p, o1, o2 := start(t, v, withSlots(k)), start(t, onlyFirst, withSlots(k1)), start(t, onlySecond, withSlots(other))
	var requests sync.WaitGroup
	send := func(r *rig) {
		requests.Go(func() {
			if res, err := r.client.Get(r.url + "/app/x"); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	send(o2)
	send(o1)
	<-busy
	<-busy
	send(p)
	eventually(t, "the other knows that one waits", func() bool { return other.Queued("app", "main") == 1 })
	close(releases["first"])
	<-busy
	eventually(t, "the other knows that none waits any more", func() bool { return other.Queued("app", "main") == 0 })
	close(releases["second"])
	requests.Wait()
}
