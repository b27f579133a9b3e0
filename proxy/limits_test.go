package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestMaxBody(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			fmt.Fprint(w, n)
		}
	})
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view(), func(c *Config) { c.MaxBody = 100 })
	for _, c := range []struct {
		name   string
		body   string // with its framing
		status int
		want   string
	}{
		{"as long as it may be", "Content-Length: 100\r\n\r\n" + strings.Repeat("a", 100), 200, "100"},
		{"longer", "Content-Length: 101\r\n\r\n" + strings.Repeat("a", 101), 413, codeTooLarge},
		{"much longer, and not sent", "Content-Length: 9000000000000000000\r\n\r\n", 413, codeTooLarge},
		{"in chunks", "Transfer-Encoding: chunked\r\n\r\n64\r\n" + strings.Repeat("a", 100) + "\r\n0\r\n\r\n", 200, "100"},
		{"in chunks, longer", "Transfer-Encoding: chunked\r\n\r\n64\r\n" + strings.Repeat("a", 100) + "\r\n1\r\na\r\n0\r\n\r\n", 413, codeTooLarge},
		{"no end", "Transfer-Encoding: chunked\r\n\r\nffffff\r\n" + strings.Repeat("a", 5000), 413, codeTooLarge},
	} {
		nc := dial(t, r.addr)
		fmt.Fprint(nc, "POST /app HTTP/1.1\r\nHost: a\r\n"+c.body)
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, _ := io.ReadAll(res.Body)
		if res.StatusCode != c.status || !strings.Contains(string(got), c.want) || (c.status == 413) != res.Close {
			t.Errorf("%s: %d %s, close %v", c.name, res.StatusCode, got, res.Close)
		}
		nc.Close()
	}
	r.waitIdle(t)
	if n := asked.Load(); n > 4 {
		t.Errorf("the replica was asked %d times", n)
	}
	r.SetLimits(Limits{MaxBody: 101})
	res, body := do(t, r.client, http.MethodPost, r.url+"/app", strings.NewReader(strings.Repeat("a", 101)))
	if res.StatusCode != 200 || body != "101" {
		t.Errorf("with another bound: %d %s", res.StatusCode, body)
	}
}

func TestTheNarrowerBoundOfABodyCounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		proxy, application int64
		want               bodyBound
		says               string
	}{
		{0, 0, bodyBound{}, ""},
		{10, 0, bodyBound{most: 10}, "the 10 bytes that this proxy takes"},
		{0, 10, bodyBound{most: 10, own: true}, "the 10 bytes that this application takes"},
		{10, 9, bodyBound{most: 9, own: true}, "the 9 bytes that this application takes"},
		{10, 11, bodyBound{most: 10}, "the 10 bytes that this proxy takes"},
		{10, 10, bodyBound{most: 10}, "the 10 bytes that this proxy takes"},
	} {
		got := boundOf(c.proxy, c.application)
		if got != c.want || !strings.Contains(got.exceeded().Message, c.says) {
			t.Errorf("proxy %d, application %d: %+v, %q", c.proxy, c.application, got, got.exceeded().Message)
		}
	}
}

// An application's own bound holds on both ports, and changes while the proxy
// runs, with the table.
func TestAnApplicationsOwnMaxBody(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			fmt.Fprint(w, n)
		}
	})
	view := func(own int64) routes.View {
		v := app{ongoing: 5, queued: -1, addresses: []string{address}}.view()
		route := v.Table["app"]
		route.MaxBodyBytes = own
		v.Table["app"] = route
		return v
	}
	r := start(t, view(10), func(c *Config) { c.MaxBody = 20 })
	post := func(url string, length int, known bool) (int, string) {
		t.Helper()
		body := io.Reader(strings.NewReader(strings.Repeat("a", length)))
		if !known {
			body = io.MultiReader(body) // which is sent in chunks
		}
		res, text := do(t, r.client, http.MethodPost, url, body)
		return res.StatusCode, text
	}
	for _, url := range []string{r.url + "/app", r.handleURL + "/app/main/"} {
		for _, known := range []bool{true, false} {
			for _, c := range []struct {
				own    int64
				length int
				status int
				says   string
			}{
				{10, 10, 200, "10"},
				{10, 11, 413, "the 10 bytes that this application takes"},
				{30, 20, 200, "20"},
				{30, 21, 413, "the 20 bytes that this proxy takes"},
				{0, 20, 200, "20"},
				{0, 21, 413, "the 20 bytes that this proxy takes"},
			} {
				r.apply(view(c.own))
				if status, body := post(url, c.length, known); status != c.status || !strings.Contains(body, c.says) {
					t.Errorf("%s, length known %v, own %d: %d bytes: %d %s", url, known, c.own, c.length, status, body)
				}
			}
		}
	}
}

func TestASlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	address := replicaServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	r := start(t, app{ongoing: 5, queued: -1, addresses: []string{address}}.view(), func(c *Config) {
		c.ClientStall, c.MinBodyRate = 300*time.Millisecond, 1<<40
	})
	nc := dial(t, r.addr)
	fmt.Fprint(nc, "POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
	answered := make(chan *http.Response, 1)
	go func() {
		res, _ := http.ReadResponse(bufio.NewReader(nc), nil)
		answered <- res
	}()
	// It never stalls, and is too slow all the same.
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case res := <-answered:
			if res == nil || res.StatusCode != http.StatusRequestTimeout || res.Header.Get(errorHeader) != codeStalled {
				t.Errorf("got %+v", res)
			}
			return
		case <-ticker.C:
			_, _ = nc.Write([]byte("a")) // it ends with the response
		}
	}
}

// readDeadlines takes the deadlines that a bodyLimit sets.
type readDeadlines struct {
	http.ResponseWriter
	last time.Time
}

func (d *readDeadlines) SetReadDeadline(t time.Time) error {
	d.last = t
	return nil
}

func TestTheTimeThatABodyHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &readDeadlines{}
		body := &meteredBody{}
		l := bodyLimit{control: http.NewResponseController(w), stall: time.Minute, rate: 100, metered: body}
		began := time.Now()
		for _, step := range []struct {
			sleep time.Duration
			read  int64
			want  time.Duration // since began
		}{
			{0, 0, time.Minute},
			{10 * time.Second, 1000, 70 * time.Second}, // as fast as it must be
			{10 * time.Second, 1_000_000, 80 * time.Second},
			{50 * time.Second, 0, 130 * time.Second}, // what came fast was time gained, up to a stall
			{50 * time.Second, 0, 180 * time.Second},
		} {
			time.Sleep(step.sleep)
			body.read.Add(step.read)
			l.renew()
			if got := w.last.Sub(began); got != step.want {
				t.Errorf("after %+v: %s", step, got)
			}
		}
		slow := bodyLimit{control: http.NewResponseController(w), stall: time.Minute, rate: 100, metered: &meteredBody{}}
		began = time.Now()
		for range 59 {
			slow.renew()
			slow.metered.read.Add(50) // of 100 a second
			time.Sleep(time.Second)
		}
		slow.renew()
		if got := w.last.Sub(began); got != 60*time.Second+59*500*time.Millisecond {
			t.Errorf("at half the pace: %s", got)
		}
		slow.lift()
		if !w.last.IsZero() {
			t.Errorf("lifted: %s", w.last)
		}
	})
}

func TestNoRateBindsGRPC(t *testing.T) {
	t.Parallel()
	for contentType, metered := range map[string]bool{"application/grpc": false, "application/grpc+proto": false, "application/json": true} {
		p := &Proxy{}
		p.SetLimits(Limits{MinBodyRate: 1})
		r := &http.Request{Header: http.Header{"Content-Type": {contentType}}, ContentLength: -1, Body: io.NopCloser(strings.NewReader("a"))}
		tr := &transit{proxy: p, r: r, body: r}
		if fault := tr.boundBody(0); fault != nil || (tr.metered != nil) != metered {
			t.Errorf("%s: metered %v, %v", contentType, tr.metered != nil, fault)
		}
	}
}
