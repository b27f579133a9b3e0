package h1

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// recorder is a handler that notes what it is asked, and answers in the way that
// the path says.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (h *recorder) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen = nil
	return seen
}

func (h *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if r.URL.Path != "/unread" { // with which net/http's server would panic
		_ = control.EnableFullDuplex()
	}
	w.Header()["Content-Type"] = nil
	var body []byte
	var err error
	if r.URL.Path != "/unread" {
		body, err = io.ReadAll(r.Body)
	}
	trailer := maps.Clone(r.Trailer)
	header := r.Header.Clone()
	delete(header, "Cache-Control") // net/http makes one of Pragma
	note := fmt.Sprintf("%s %q %s %d.%d %+v host=%q %q length=%d te=%v close=%v %q trailer=%q broken=%v",
		r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, *r.URL, r.Host, header, r.ContentLength, r.TransferEncoding, r.Close, body, trailer, err != nil)
	h.mu.Lock()
	h.seen = append(h.seen, note)
	h.mu.Unlock()
	if err != nil {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	respond(w, control, r.URL.Path)
}

// respond answers in one of many ways.
func respond(w http.ResponseWriter, control *http.ResponseController, way string) {
	h := w.Header()
	switch way {
	case "/length":
		h.Set("Content-Length", "5")
		fmt.Fprint(w, "hello")
	case "/short":
		h.Set("Content-Length", "10")
		fmt.Fprint(w, "hello")
	case "/more":
		h.Set("Content-Length", "5")
		fmt.Fprint(w, "hello")
		if _, err := fmt.Fprint(w, "!"); !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	case "/2048", "/2049", "/10000":
		n := 0
		_, _ = fmt.Sscan(way[1:], &n)
		fmt.Fprint(w, strings.Repeat("x", n))
	case "/pieces":
		for range 100 {
			fmt.Fprint(w, strings.Repeat("y", 77))
		}
	case "/lengthpieces":
		h.Set("Content-Length", "50000")
		for range 100 {
			fmt.Fprint(w, strings.Repeat("y", 500))
		}
	case "/flush":
		fmt.Fprint(w, "one")
		_ = control.Flush()
		fmt.Fprint(w, "two")
	case "/flushhead":
		_ = control.Flush()
	case "/trailer":
		h.Set("Trailer", "X-Sum")
		fmt.Fprint(w, "hello")
		h.Set("X-Sum", "1")
	case "/prefix":
		fmt.Fprint(w, "hello")
		_ = control.Flush()
		h.Set(http.TrailerPrefix+"X-Sum", "1")
	case "/204", "/304", "/299", "/404", "/205":
		n := 0
		_, _ = fmt.Sscan(way[1:], &n)
		h.Set("X-A", "1")
		h.Set("Content-Length", "0")
		w.WriteHeader(n)
	case "/304body":
		w.WriteHeader(http.StatusNotModified)
		if _, err := fmt.Fprint(w, "no"); !errors.Is(err, http.ErrBodyNotAllowed) {
			panic(err)
		}
	case "/hints":
		h.Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "hello")
	case "/close":
		h.Set("Connection", "close")
		fmt.Fprint(w, "hello")
	case "/keep":
		h.Set("Connection", "keep-alive")
		h.Set("Content-Length", "2")
		fmt.Fprint(w, "ok")
	case "/identity":
		h.Set("Transfer-Encoding", "identity")
		fmt.Fprint(w, "hello")
	case "/chunked":
		h.Set("Transfer-Encoding", "chunked")
		fmt.Fprint(w, "hello")
	case "/split":
		h["X-A"] = []string{"a\r\nX-Evil: 1", " b "}
		h["X B"] = []string{"c"}
	case "/date":
		h["Date"] = nil
	case "/abort":
		fmt.Fprint(w, strings.Repeat("x", 5000))
		_ = control.Flush()
		panic(http.ErrAbortHandler)
	case "/aborthead":
		h.Set("X-A", "1")
		h.Set("Content-Length", "5")
		w.WriteHeader(http.StatusOK)
		panic(http.ErrAbortHandler)
	case "/abortsoon":
		fmt.Fprint(w, "hello")
		panic(http.ErrAbortHandler)
	case "/abortnothing":
		panic(http.ErrAbortHandler)
	}
}

// twins are the two servers with the same handler.
type twins struct {
	ours, theirs       recorder
	ourAddr, theirAddr string
	refused            *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.b.Reset()
	return s.b.String()
}

func newTwins(tb testing.TB) *twins {
	tb.Helper()
	p := &twins{refused: &syncBuffer{}}
	_, p.ourAddr = serveTCP(tb, &p.ours, logTo(p.refused))
	p.theirAddr = serveNet(tb, &p.theirs)
	return p
}

// connectionLine finds Connection headers, plainList those that are lists of
// tokens, and plainKeepAlive those of HTTP/1.0 that are nothing but keep-alive.
var (
	connectionLine = regexp.MustCompile(`(?i)\nconnection:[^\n]*\n`)
	plainList      = regexp.MustCompile(`^[^:]*:[ \t]*[\w-]*([ \t]*,[ \t]*[\w-]*)*[ \t]*\r\n$`)
	plainKeepAlive = regexp.MustCompile(`(?i)^[^:]*:[ \t]*keep-alive[ \t]*\r\n$`)
)

// oddConnection says whether net/http's server reads something into Connection
// that is not in it: it takes blanks for commas, and in HTTP/1.0 keep-alive to be
// more than close.
func oddConnection(raw string) bool {
	for _, line := range connectionLine.FindAllString(raw, -1) {
		if !plainList.MatchString(line) || (strings.Contains(raw, "HTTP/1.0") && !plainKeepAlive.MatchString(line)) {
			return true
		}
	}
	return false
}

// compare sends the same bytes to both.
func (p *twins) compare(t *testing.T, raw string) {
	t.Helper()
	ourRaw, theirRaw := talk(t, p.ourAddr, raw), talk(t, p.theirAddr, raw)
	ours, theirs := p.ours.take(), p.theirs.take()
	refused := p.refused.take()
	strict := strings.Contains(refused, "refused")
	methods := make([]string, 0, len(ours))
	for i, note := range ours {
		methods = append(methods, note[:strings.IndexByte(note, ' ')])
		if strings.HasSuffix(note, "broken=true") {
			ours, strict = ours[:i], true // net/http may have read on
			break
		}
	}
	if oddConnection(raw) {
		return
	}
	if strict && len(theirs) > len(ours) {
		theirs = theirs[:len(ours)]
	}
	if diff := cmp.Diff(theirs, ours, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the handlers saw (-net/http +h1), refused %q:\n%s\n%q", refused, diff, raw)
	}
	gotOurs, restOurs := answers(ourRaw, methods...)
	gotTheirs, restTheirs := answers(theirRaw, methods...)
	if strict {
		n := finals(gotOurs, len(ours))
		gotOurs, gotTheirs, restOurs, restTheirs = gotOurs[:n], gotTheirs[:min(n, len(gotTheirs))], "", ""
	} else if len(gotTheirs) > len(gotOurs) && finals(gotOurs, len(ours)) == len(gotOurs) {
		// What comes after the last request is only for net/http to answer.
		gotTheirs, restTheirs, restOurs = gotTheirs[:len(gotOurs)], "", ""
	}
	if diff := cmp.Diff(gotTheirs, gotOurs, cmpopts.EquateEmpty()); diff != "" || restOurs != restTheirs {
		t.Errorf("the client saw (-net/http +h1):\n%s\nrest %q, %q\n%q\n%q\n%q", diff, restTheirs, restOurs, raw, ourRaw, theirRaw)
	}
}

// finals says how many answers there are up to the n-th final one.
func finals(answers []string, n int) int {
	for i, a := range answers {
		if n == 0 {
			return i
		}
		if !strings.Contains(a[:12], " 1") {
			n--
		}
	}
	return len(answers)
}

// seeds are requests in pieces of every kind.
func seeds() []string {
	heads := []string{
		"GET %s HTTP/1.1\nHost: a\n\n", "HEAD %s HTTP/1.1\nHost: a\n\n", "GET %s HTTP/1.0\n\n", "HEAD %s HTTP/1.0\n\n",
		"GET %s HTTP/1.0\nConnection: keep-alive\n\n", "GET %s HTTP/1.1\nHost: a\nConnection: close\n\n",
		"POST %s HTTP/1.1\nHost: a\nContent-Length: 4\n\nbody", "POST %s HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n4\nbody\n0\n\n",
		"POST %s HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\nbody",
		"PUT %s HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\nTrailer: X\n\n4;a=b\nbody\n1\n!\n0\nX: 1\nY: 2\n\n",
	}
	var out []string
	for _, head := range heads {
		for _, way := range []string{
			"/", "/length", "/short", "/more", "/2048", "/2049", "/10000", "/pieces", "/lengthpieces", "/flush", "/flushhead",
			"/trailer", "/prefix", "/204", "/304", "/299", "/404", "/205", "/304body", "/hints", "/close", "/keep", "/identity", "/chunked", "/split", "/date",
			"/abort", "/abortnothing", "/aborthead", "/abortsoon",
		} {
			one := strings.ReplaceAll(fmt.Sprintf(head, way), "\n", "\r\n")
			out = append(out, one+one)
		}
	}
	for _, odd := range []string{
		"POST /unread HTTP/1.1\nHost: a\nContent-Length: 4\n\nbodyGET / HTTP/1.1\nHost: a\n\n",
		"POST /unread HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n4\nbody\n0\n\nGET / HTTP/1.1\nHost: a\n\n",
		"POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx\n\nGET / HTTP/1.1\nHost: a\n\n",
		"OPTIONS * HTTP/1.1\nHost: a\n\n", "CONNECT a:1 HTTP/1.1\nHost: a:1\n\n", "GET http://a/x?y HTTP/1.1\nHost: a\n\n",
		"GET /a%2fb//c;d=e?f=%20&g HTTP/1.1\nHost: a\nX-a: 1\nx-A: 2\nCookie: b\nPragma: no-cache\n\n",
		"GET / HTTP/1.1\nHost: a\nExpect: cake\n\n", "GET / HTTP/1.0\nExpect: cake\n\n", "PRI * HTTP/2.0\n\nSM\n\n", "GET / HTTP/1.1\nHost: [::1]:80\nUpgrade: h2c\nConnection: upgrade\n\n",
		"POST / HTTP/1.1\nHost: a\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n", "GET / HTTP/1.1\nHost: a\nX: 1\n 2\n\n",
		"POST / HTTP/1.1\nHost: a\nContent-Length: 4\n\nbo", "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n4\nbo", "GET / HTTP/1.1\nHost: a\nX",
		"GET /`{|}\"<>^\\ HTTP/1.1\nHost: a\n\n", "GET /%41%zz HTTP/1.1\nHost: a\n\n", "GET /x?%zz HTTP/1.1\nHost: a\n\n", "GET //x HTTP/1.1\nHost: a\n\n",
	} {
		out = append(out, strings.ReplaceAll(odd, "\n", "\r\n"))
	}
	return out
}

// TestSameAsNetHTTP sends the same bytes to both servers.
func TestSameAsNetHTTP(t *testing.T) {
	p := newTwins(t)
	for _, raw := range seeds() {
		p.compare(t, raw)
	}
}

// FuzzSameAsNetHTTP holds that whatever h1 takes, net/http's server takes too,
// and that both pass on and answer the same.
func FuzzSameAsNetHTTP(f *testing.F) {
	for _, raw := range seeds() {
		f.Add([]byte(raw))
	}
	p := newTwins(f)
	f.Fuzz(func(t *testing.T, raw []byte) { p.compare(t, string(raw)) })
}
