package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// slowClients returns how many slow clients there are of each kind.
func slowClients(kinds int) int {
	if long() {
		return 2000 / kinds
	}
	return 20
}

// TestSlowClients has many clients that send or read as slowly as they can, in
// every way at once. The proxy ends them at its limits, and those who ask
// meanwhile, for another application, do not notice.
func TestSlowClients(t *testing.T) {
	if !long() {
		t.Parallel() // else its memory is measured
	}
	const stall = 2 * time.Second
	kinds := map[string]func(addr string) error{
		"headers that come one by one": slowHeaders,
		"a header that does not end":   silentAfter("GET /slow HTTP/1.1\r\nHost: a\r\nX-A: "),
		"nothing at all":               silentAfter(""),
		"a body that does not come":    silentAfter("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"),
		"a chunk that does not come":   silentAfter("POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
		"a body that nobody wants":     silentAfter("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"),
		"a body that comes in bytes":   slowBody,
		"an answer that is not read":   slowReader,
		"half of an HTTP/2 preface":    silentAfter("PRI * HTTP/2.0\r\n\r\nSM\r"),
	}
	if long() { // they take the minute that a connection may be idle
		kinds["HTTP/2 without a request"] = silentAfter(preface)
		kinds["half of an HTTP/2 frame"] = silentAfter(preface + "\x00\x00\x05\x01\x01\x00\x00\x00\x01")
		kinds["a second request that does not come"] = silentAfter("GET /none HTTP/1.1\r\nHost: a\r\n\r\nGET")
	}
	slow := application{name: "slow", prefix: "/slow", ongoing: 10, queued: -1, timeout: 5 * time.Second, replicas: []string{replica(t, bigAnswer)}}
	r := start(t, viewOf(app(10, replica(t, answerPath)), slow), func(c *proxy.Config) {
		c.ClientStall = stall
		c.Linger = stall
	})
	before := heap()
	count := slowClients(len(kinds))
	attacks := map[string]*attack{}
	for name, one := range kinds {
		attacks[name] = startAttack(r.addr, count, one)
	}
	all := bystander(t, r, min(span(t, 3*time.Second), 20*time.Second))
	held := heap()
	for name, a := range attacks {
		a.wait(t, name)
	}
	total := count * len(kinds)
	t.Logf("%d slow clients: others' p50 %v p99 %v (%d requests); %d kB a slow client, both of its ends",
		total, all.quantile("200", 0.5), all.quantile("200", 0.99), all.count("200"), int64(held-min(before, held))/1024/int64(total))
	if long() && held > before+uint64(total)*100<<10+64<<20 {
		t.Errorf("memory went from %d to %d bytes", before, held)
	}
	r.waitIdle(t)
}

// preface begins HTTP/2, with settings.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func answerPath(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Path) }

// bigAnswer reads all and then says more than any socket buffers.
func bigAnswer(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	_, _ = io.CopyN(w, zeros{}, 32<<20)
}

// attack is clients that are slow until the proxy ends them.
type attack struct {
	clients sync.WaitGroup
	ended   atomic.Int64 // by the proxy
	kept    atomic.Int64 // as long as the test had patience
	refused atomic.Int64 // not connected
}

func startAttack(addr string, count int, one func(addr string) error) *attack {
	a := &attack{}
	for range count {
		a.clients.Go(func() {
			switch err := one(addr); {
			case errors.Is(err, errNoConnection):
				a.refused.Add(1)
			case errors.Is(err, os.ErrDeadlineExceeded):
				a.kept.Add(1)
			default:
				a.ended.Add(1)
			}
		})
	}
	return a
}

// wait waits until the proxy has ended every client.
func (a *attack) wait(t *testing.T, name string) {
	t.Helper()
	a.clients.Wait()
	if a.kept.Load() > 0 || a.refused.Load() > 0 {
		t.Errorf("%s: %d clients were ended, %d kept, %d not connected", name, a.ended.Load(), a.kept.Load(), a.refused.Load())
	}
}

var errNoConnection = errors.New("no connection")

// limit is by when the proxy must have ended a slow client.
const limit = 90 * time.Second

func connectSlow(addr string) (*net.TCPConn, error) {
	nc, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return nil, errors.Join(errNoConnection, err)
	}
	_ = nc.SetDeadline(time.Now().Add(limit)) // an error shows at the next read
	return nc.(*net.TCPConn), nil
}

// silentAfter sends what it has and then only waits.
func silentAfter(text string) func(string) error {
	return func(addr string) error {
		nc, err := connectSlow(addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		if _, err := io.WriteString(nc, text); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, nc)
		return err
	}
}

// slowHeaders and slowBody send a little every now and then, so that no limit on
// silence ends them.
func slowHeaders(addr string) error {
	return drip(addr, "GET /slow HTTP/1.1\r\nHost: a\r\n", "X-A: b\r\n")
}

func slowBody(addr string) error {
	return drip(addr, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", "x")
}

func drip(addr, head, drop string) error {
	nc, err := connectSlow(addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, nc)
		ended <- err
	}()
	if _, err := io.WriteString(nc, head); err != nil {
		nc.Close()
		return <-ended
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
			if _, err := io.WriteString(nc, drop); err != nil {
				nc.Close()
				return errors.Join(err, <-ended)
			}
		}
	}
}

// slowReader asks for much and reads a few bytes of it. That it has been ended
// shows when it tries to read on.
func slowReader(addr string) error {
	nc, err := connectSlow(addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	timer := time.NewTimer(10 * time.Second) // longer than the proxy waits
	defer timer.Stop()
	<-timer.C
	n, err := io.Copy(io.Discard, nc)
	if n > 31<<20 {
		return fmt.Errorf("all of it came: %w", os.ErrDeadlineExceeded)
	}
	return err
}

// arrival is how many requests of a bystander are served and not timed: that
// thousands of clients connect at once, to a proxy that shares the machine with
// them, takes longer than what they do then.
const arrival = 2 * perSecond

// perSecond is how often a bystander asks.
const perSecond = 100

// bystander asks for another application for a while, and is served.
func bystander(t *testing.T, r *rig, length time.Duration) *latencies {
	t.Helper()
	all := &latencies{}
	openLoop(perSecond, length, func(i int) {
		began := time.Now()
		path := fmt.Sprint("/", i)
		res, err := r.client.Get(r.url + "/app" + path)
		if err != nil {
			t.Errorf("another client: %v", err)
			return
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK || !strings.HasSuffix(string(b), path) {
			t.Errorf("another client got %d %q %v", res.StatusCode, b, err)
		}
		if i >= arrival || !long() {
			all.add(fmt.Sprint(res.StatusCode), time.Since(began))
		}
	})
	if p99 := all.quantile("200", 0.99); long() && p99 > time.Second {
		t.Errorf("another client waited %v", p99)
	}
	return all
}
