package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// counted is a replica that counts what it has to do, by proxy and in all.
type counted struct {
	id      string
	address string
	server  *http.Server
	serving sync.WaitGroup

	mu           sync.Mutex
	now, most    map[string]int // by the proxy's address
	sum, mostSum int
}

func startCounted(tb testing.TB, id, host string, work func() time.Duration) *counted {
	tb.Helper()
	c := &counted{id: id, now: map[string]int{}, most: map[string]int{}}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	c.address = l.Addr().String()
	c.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxy := r.Header.Get("X-Forwarded-Host") // clients name the port that they ask
		c.enter(proxy)
		defer c.leave(proxy)
		time.Sleep(work()) // stands for the work
		b, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Errorf("a request's body broke off: %v", err)
		}
		_, _ = w.Write(b)
	})}
	c.serving.Go(func() { _ = c.server.Serve(l) }) // it ends with Shutdown or Close
	tb.Cleanup(func() {
		_ = c.server.Close()
		c.serving.Wait()
	})
	return c
}

func (c *counted) enter(proxy string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[proxy]++
	c.sum++
	c.most[proxy] = max(c.most[proxy], c.now[proxy])
	c.mostSum = max(c.mostSum, c.sum)
}

func (c *counted) leave(proxy string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[proxy]--
	c.sum--
}

// fleet is the replicas of the moment. Changes are made as Nomad makes them: a
// replica leaves the endpoints first, and stops when the proxies have seen that.
type fleet struct {
	t        *testing.T
	rig      *rig
	limit    int
	strict   bool // the limit holds for all proxies together
	version  string
	serial   int
	live     []*counted
	all      []*counted
	work     func() time.Duration
	stopping sync.WaitGroup
}

func (f *fleet) add() {
	f.serial++
	host := hostOf(0)
	if f.strict {
		host = hostOf(f.serial % 2) // half with each of the gatekeepers
	}
	c := startCounted(f.t, fmt.Sprintf("r%d-%s", f.serial, f.version), host, f.work)
	f.live, f.all = append(f.live, c), append(f.all, c)
}

// publish shows the proxies who is live, and waits until they know it.
func (f *fleet) publish() {
	f.t.Helper()
	f.rig.publish(f.view())
	want := map[string]bool{}
	for _, c := range f.live {
		want[c.id] = true
	}
	eventually(f.t, "the proxies have seen the change", func() bool {
		for _, p := range f.rig.proxies {
			for _, d := range p.Status().Deployments {
				known := 0
				for _, r := range d.Replicas {
					if want[r.Replica] != !r.Leaving {
						return false
					}
					if !r.Leaving {
						known++
					}
				}
				if known != len(want) {
					return false
				}
			}
		}
		return true
	})
}

func (f *fleet) view() routes.View {
	v := viewOf(app(f.limit))
	d := v.Table["app"].Deployments["app"]
	d.Version = f.version
	v.Table["app"].Deployments["app"] = d
	for _, c := range f.live {
		v.Endpoints = append(v.Endpoints, routes.Endpoint{
			Replica: c.id, Application: "app", Deployment: "app", Version: f.version, Address: c.address, Passing: true,
		})
	}
	return v
}

// stop ends replicas that the proxies no longer send to, once each has finished
// what it had begun.
func (f *fleet) stop(gone ...*counted) {
	for _, c := range gone {
		f.stopping.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			// What has got a slot is sent within Nomad's shutdown_delay.
			eventually(f.t, "the proxies have nothing under way at it", func() bool { return !f.atWork(c) })
			if err := c.server.Shutdown(ctx); err != nil {
				f.t.Errorf("replica %s: %v", c.id, err)
			}
		})
	}
}

// atWork says whether a proxy has a request for c.
func (f *fleet) atWork(c *counted) bool {
	for _, p := range f.rig.proxies {
		for _, d := range p.Status().Deployments {
			for _, r := range d.Replicas {
				if r.Replica == c.id && r.Ongoing > 0 {
					return true
				}
			}
		}
	}
	return false
}

// change adds a replica, takes one away, or replaces all by another version.
func (f *fleet) change(dice *rand.Rand) {
	switch what := dice.IntN(5); {
	case what == 0:
		old := f.live
		f.version = fmt.Sprint("v", f.serial)
		f.live = nil
		for range 2 + dice.IntN(3) {
			f.add()
		}
		f.publish()
		f.stop(old...)
	case (what <= 2 && len(f.live) < 6) || len(f.live) <= 2:
		f.add()
		f.publish()
	default:
		i := dice.IntN(len(f.live))
		gone := f.live[i]
		f.live = append(f.live[:i:i], f.live[i+1:]...)
		f.publish()
		f.stop(gone)
	}
}

// TestChurn adds and takes away replicas at random under 200 requests a second
// through two proxies. No request is lost, and no replica ever has more than its
// limit: from each proxy, and from both together where gatekeepers keep it.
func TestChurn(t *testing.T) {
	t.Parallel()
	t.Run("each proxy counts alone", func(t *testing.T) { churn(t, false) })
	t.Run("gatekeepers count", func(t *testing.T) { churn(t, true) })
}

func churn(t *testing.T, strict bool) {
	t.Parallel()
	const limit, rate, proxies = 3, 200, 2
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	f := &fleet{t: t, limit: limit, strict: strict, version: "v0", work: func() time.Duration {
		return time.Duration(1+rand.IntN(15)) * time.Millisecond
	}}
	for range 3 {
		f.add()
	}
	f.rig = startWith(t, f.view(), options{proxies: proxies, keepers: strict})

	var lost atomic.Int64
	length := min(span(t, 3*time.Second), 10*time.Minute)
	done := make(chan int)
	go func() {
		done <- openLoop(rate, length, func(i int) {
			if err := roundTrip(f.rig, i); err != nil {
				lost.Add(1)
				t.Errorf("request %d: %v", i, err)
			}
		})
	}()
	changes := 0
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for sent := 0; sent == 0; {
		select {
		case sent = <-done:
			t.Logf("%d requests, %d lost, %d changes", sent, lost.Load(), changes)
		case <-ticker.C:
			f.change(dice)
			changes++
		}
	}
	f.stopping.Wait()
	f.checkLimits(t)
	f.rig.waitIdle(t)
}

// checkLimits looks at what each replica had at once.
func (f *fleet) checkLimits(t *testing.T) {
	t.Helper()
	most := 0
	for _, c := range f.all {
		for proxy, n := range c.most {
			if n > f.limit {
				t.Errorf("replica %s had %d requests at once from %s, and its limit is %d", c.id, n, proxy, f.limit)
			}
		}
		most = max(most, c.mostSum)
		if f.strict && c.mostSum > f.limit {
			t.Errorf("replica %s had %d requests at once, and its limit is %d", c.id, c.mostSum, f.limit)
		}
	}
	t.Logf("at most %d requests at once at a replica, whose limit is %d", most, f.limit)
}

// roundTrip sends a GET or a POST through one of the proxies and checks what
// comes back.
func roundTrip(r *rig, i int) error {
	url := fmt.Sprintf("http://%s/app/%d", r.addrs[i%len(r.addrs)], i)
	want := ""
	var res *http.Response
	var err error
	if i/len(r.addrs)%2 == 0 {
		res, err = r.client.Get(url)
	} else {
		want = strings.Repeat(fmt.Sprintf("body %d ", i), 1+i%1000)
		res, err = r.client.Post(url, "text/plain", strings.NewReader(want))
	}
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %s", res.Status, res.Header.Get("X-Serve-Error"), b)
	case string(b) != want:
		return errors.New("another body came back")
	}
	return nil
}
