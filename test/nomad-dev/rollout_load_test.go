//go:build e2e

package nomaddev_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One request in streamEach is a stream, of a line each streamChunk. Of 200 a
// second that are 5, and 195 are short: every other one a POST, which nobody may
// send twice.
const (
	streamEach  = 40
	streamChunk = 250 * time.Millisecond
)

// traffic is an open loop: each request is sent when it is due, whatever became
// of those before, to each proxy in turn.
type traffic struct {
	urls   []string // of the application, one a proxy
	rate   int      // a second
	length time.Duration
	token  string // that requests carry; "": none
	client *http.Client
	stop   context.CancelFunc
	done   sync.WaitGroup
	begun  time.Time

	mu      sync.Mutex
	sent    int // and ended
	streams int
	lost    []loss
	resent  []int // ids of requests that the client itself sent twice
	answers map[string]*answered
	took    []time.Duration // of short requests
}

// answered is the answers that the same versions gave.
type answered struct {
	n           int
	first, last time.Time   // when they ended
	prices      map[int]int // that were said, how often
}

// loss is a request that was not answered in full.
type loss struct {
	id          int
	sent, ended time.Time
	kind        string // GET, POST, stream
	proxy       int
	status      int    // 0: no answer
	code        string // X-Serve-Error
	version     string // that the replica said it is
	chunks      int    // of a stream, that came
	reason      string
}

func (l loss) String() string {
	return fmt.Sprintf("%s %d by proxy %d, sent %s, ended %s later: %d %s version %q, %d chunks: %s",
		l.kind, l.id, l.proxy+1, l.sent.Format("05.000"), ms(l.ended.Sub(l.sent)), l.status, l.code, l.version, l.chunks, l.reason)
}

// startTraffic sends requests to an application, with a token unless that is "",
// until it is ended.
func (s *shop) startTraffic(application string, p phases, token string) *traffic {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &traffic{
		rate: p.rate, length: p.stream, token: token, stop: cancel, begun: time.Now(), answers: map[string]*answered{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000, DisableCompression: true}},
	}
	for _, p := range s.Proxies {
		l.urls = append(l.urls, p.URL()+"/"+application)
	}
	s.t.Cleanup(l.end)
	l.done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(l.rate))
		defer tick.Stop()
		for i := 0; ; {
			// As many as are due: a tick that came late is made up for.
			for due := int(time.Since(l.begun) * time.Duration(l.rate) / time.Second); i < due; i++ {
				id := i
				l.done.Go(func() { l.one(id) })
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return l
}

func (l *traffic) end() {
	l.stop()
	l.done.Wait()
	l.client.CloseIdleConnections()
}

// one sends one request and keeps what became of it.
func (l *traffic) one(id int) {
	r := loss{id: id, kind: http.MethodGet, proxy: id % len(l.urls), sent: time.Now()}
	method, path, limit := http.MethodGet, "/item", 30*time.Second
	var body io.Reader
	switch {
	case id%streamEach == 0:
		r.kind, path, limit = "stream", fmt.Sprintf("/stream?for=%s&every=%s", l.length, streamChunk), l.length+30*time.Second
		r.proxy = id / streamEach % len(l.urls)
	case id/len(l.urls)%2 == 1:
		method, body, r.kind = http.MethodPost, strings.NewReader("one more"), http.MethodPost
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var tries atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { tries.Add(1) }})
	said, err := l.send(ctx, &r, method, path, body)
	r.ended = time.Now()
	if err != nil {
		r.reason = err.Error()
	}
	l.keep(r, said, err == nil, int(tries.Load()))
}

// said is what an answer says.
type said struct {
	ID, Versions string
	Price        int
}

func (l *traffic) send(ctx context.Context, r *loss, method, path string, body io.Reader) (said, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.urls[r.proxy]+path, body)
	if err != nil {
		return said{}, err
	}
	req.GetBody = nil // the client must not be able to send it again
	req.Header.Set("X-Load-Id", strconv.Itoa(r.id))
	if l.token != "" {
		req.Header.Set("Authorization", "Bearer "+l.token)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return said{}, err
	}
	defer resp.Body.Close()
	r.status, r.code, r.version = resp.StatusCode, resp.Header.Get("X-Serve-Error"), resp.Header.Get("X-Version")
	if resp.StatusCode == http.StatusOK && r.kind == "stream" {
		return l.follow(resp.Body, r)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return said{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return said{}, fmt.Errorf("%.200s", text)
	}
	var got said
	if err = json.Unmarshal(text, &got); err == nil && got.ID != strconv.Itoa(r.id) {
		err = fmt.Errorf("the answer is that of request %s", got.ID)
	}
	return got, err
}

// follow reads a stream to its end, and counts its lines.
func (l *traffic) follow(body io.Reader, r *loss) (said, error) {
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		text := lines.Text()
		if versions, ends := strings.CutPrefix(text, "end "); ends {
			if whole := int(l.length / streamChunk); r.chunks != whole {
				return said{}, fmt.Errorf("it ends after %d of %d", r.chunks, whole)
			}
			return said{Versions: versions}, nil
		}
		if text != strconv.Itoa(r.chunks) {
			return said{}, fmt.Errorf("after %d lines: %q", r.chunks, text)
		}
		r.chunks++
	}
	if err := lines.Err(); err != nil {
		return said{}, err
	}
	return said{}, io.ErrUnexpectedEOF
}

func (l *traffic) keep(r loss, got said, whole bool, tries int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if r.kind == "stream" {
		l.streams++
	} else {
		l.took = append(l.took, r.ended.Sub(r.sent))
	}
	if tries > 1 {
		l.resent = append(l.resent, r.id)
	}
	if !whole {
		l.lost = append(l.lost, r)
		return
	}
	a := l.answers[got.Versions]
	if a == nil {
		a = &answered{first: r.ended, prices: map[int]int{}}
		l.answers[got.Versions] = a
	}
	a.n++
	a.last = r.ended
	if r.kind != "stream" {
		a.prices[got.Price]++
	}
}

// goesOn waits until the requests of so much time have been sent and, but for
// streams, answered.
func (l *traffic) goesOn(t *testing.T, d time.Duration) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.took)
	}
	want := count() + int(d*time.Duration(l.rate)/time.Second)*(streamEach-1)/streamEach
	eventually(t, 2*d+60*time.Second, fmt.Sprintf("%s of requests are answered", d), func() error {
		if have := count(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// says waits until a front of that version answers.
func (l *traffic) says(t *testing.T, limit time.Duration, version string) {
	t.Helper()
	eventually(t, limit, version+" answers", func() error {
		if l.by(version) == 0 {
			return fmt.Errorf("these do: %v", l.counts())
		}
		return nil
	})
}

// counts returns how many answers each combination of versions gave.
func (l *traffic) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := map[string]int{}
	for versions, a := range l.answers {
		counts[versions] = a.n
	}
	return counts
}

// take removes the losses for which it is so, and returns them: what is left
// is lost without excuse.
func (l *traffic) take(excused func(loss) bool) []loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	var taken, left []loss
	for _, r := range l.lost {
		if excused(r) {
			taken = append(taken, r)
		} else {
			left = append(left, r)
		}
	}
	l.lost = left
	return taken
}

// by returns how many answers a front of that version gave.
func (l *traffic) by(version string) int {
	sum := 0
	for versions, n := range l.counts() {
		if strings.HasPrefix(versions, version+" ") {
			sum += n
		}
	}
	return sum
}

// wantNoneLost ends the load and checks that what is not excused was answered,
// and that the client sent nothing twice.
func (l *traffic) wantNoneLost(t *testing.T) {
	t.Helper()
	l.end()
	if len(l.resent) > 0 {
		t.Errorf("the client itself sent %d requests more than once: %v", len(l.resent), l.resent[:min(10, len(l.resent))])
	}
	if l.sent == 0 {
		t.Error("no request was sent: nothing is tested")
	}
	if len(l.lost) == 0 {
		return
	}
	kinds := map[string]int{}
	for _, r := range l.lost {
		kinds[fmt.Sprintf("%s %d %s", r.kind, r.status, r.code)]++
	}
	t.Errorf("%d of %d requests lost: %v", len(l.lost), l.sent, kinds)
	slices.SortFunc(l.lost, func(a, b loss) int { return a.sent.Compare(b.sent) })
	for _, r := range l.lost[:min(12, len(l.lost))] {
		t.Log(r)
	}
}
