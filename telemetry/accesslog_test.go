package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// lines logs records and returns what was written.
func lines(t *testing.T, c AccessLog, records ...*proxy.Record) []string {
	t.Helper()
	out := &output{}
	c.Writer = out
	tel := newTelemetry(t, Config{AccessLog: &c})
	stop := run(t, tel)
	for _, r := range records {
		tel.Ended(r)
	}
	stop()
	return strings.SplitAfter(out.String(), "\n")[:strings.Count(out.String(), "\n")]
}

func TestJSONLine(t *testing.T) {
	r := record("/app/a b")
	r.Trace.ID = [16]byte{1, 2, 3}
	got := lines(t, AccessLog{Format: JSON, Sample: 1, Headers: []string{"user-agent", "Referer"}}, r)
	var object map[string]any
	if err := json.Unmarshal([]byte(got[0]), &object); err != nil {
		t.Fatalf("%v: %s", err, got[0])
	}
	want := map[string]any{
		"time": "2026-05-06T07:08:09.123456Z", "id": "id-1", "trace_id": "01020300000000000000000000000000", "port": "public",
		"client": "192.0.2.7:4711", "protocol": "HTTP/1.1", "method": "GET", "host": "example.com", "path": "/app/a%20b",
		"application": "app", "deployment": "main", "version": "v1", "replica": "r0", "node": "n1", "address": "10.0.0.9:2000",
		"status": 200.0, "bytes_in": 3.0, "bytes_out": 15.0, "tries": 1.0,
		"queued_seconds": 0.001, "first_byte_seconds": 0.02, "duration_seconds": 0.03,
		"headers": map[string]any{"User-Agent": "test/1"},
	}
	if diff := cmp.Diff(want, object); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQueryIsLoggedOnlyWhenAskedFor(t *testing.T) {
	for _, format := range []Format{JSON, Combined} {
		if got := lines(t, AccessLog{Format: format, Sample: 1}, record("/x")); strings.Contains(got[0], "secret") {
			t.Errorf("a secret is in %s", got[0])
		}
		if got := lines(t, AccessLog{Format: format, Sample: 1, Query: true}, record("/x")); !strings.Contains(got[0], "token=secret") {
			t.Errorf("no query is in %s", got[0])
		}
	}
}

func TestCombinedLine(t *testing.T) {
	r := record("/app/a\"b")
	r.Request.Header.Set("Referer", "http://example.com/\n192.0.2.1 - - forged")
	got := lines(t, AccessLog{Format: Combined, Sample: 1, Headers: []string{"User-Agent", "Referer"}}, r)
	want := `192.0.2.7 - - [06/May/2026:07:08:09 +0000] "GET /app/a%22b HTTP/1.1" 200 15 "http://example.com/\x0A192.0.2.1 - - forged" "test/1"` + "\n"
	if len(got) != 1 || got[0] != want {
		t.Errorf("got  %swant %s", got, want)
	}
	got = lines(t, AccessLog{Format: Combined, Sample: 1}, record("/"))
	if !strings.HasSuffix(got[0], `200 15 "-" "-"`+"\n") {
		t.Errorf("%s", got[0])
	}
}

// Whatever a client sends, a request is one line, and JSON is read back as what
// was sent.
func TestNoClientForgesALine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nasty := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\n", "\r\n", "\"", "\\", "\u2028\u0085", "\xff\xfe", "\x00\x1b[31m", `","status":200,"x":"`}),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		r := record("/" + nasty.Draw(rt, "path"))
		r.ID, r.Request.Method, r.Request.Host, r.Request.Proto = nasty.Draw(rt, "id"), nasty.Draw(rt, "method"), nasty.Draw(rt, "host"), nasty.Draw(rt, "protocol")
		r.Request.URL.RawQuery, r.Request.URL.RawPath = nasty.Draw(rt, "query"), nasty.Draw(rt, "raw path")
		r.Request.RemoteAddr = nasty.Draw(rt, "client")
		r.Request.Header.Set("X", nasty.Draw(rt, "header"))
		var b batch
		headers := []string{"X"}
		b.add(r, headers)
		for _, format := range []Format{JSON, Combined} {
			f := newLineFormat(AccessLog{Format: format, Query: true}, headers)
			line := f.append(nil, &b, &b.entries[0])
			for i, c := range line[:len(line)-1] {
				if c < ' ' || c == 0x7f {
					rt.Fatalf("byte %d is %#x in %q", i, c, line)
				}
			}
			if bytes.ContainsAny(line, "\u0085\u2028\u2029") || line[len(line)-1] != '\n' {
				rt.Fatalf("more than one line: %q", line)
			}
			if format == Combined {
				continue
			}
			var object struct {
				ID, Host, Query, Method string
				Status                  int
				Headers                 map[string]string
			}
			if err := json.Unmarshal(line, &object); err != nil {
				rt.Fatalf("%v: %q", err, line)
			}
			for got, sent := range map[string]string{object.ID: r.ID, object.Host: r.Request.Host, object.Query: r.Request.URL.RawQuery} {
				if got != valid(sent) {
					rt.Fatalf("%q was read back as %q", sent, got)
				}
			}
			if object.Status != 200 || object.Headers["X"] != valid(r.Request.Header.Get("X")) {
				rt.Fatalf("%q", line)
			}
		}
	})
}

// valid is s with each byte that is not UTF-8 replaced.
func valid(s string) string { return string([]rune(s)) }

func TestSampling(t *testing.T) {
	kinds := map[string]func(*proxy.Record){
		"ordinary":    func(*proxy.Record) {},
		"not found":   func(r *proxy.Record) { r.Status = 404 },
		"unavailable": func(r *proxy.Record) { r.GRPC = "14" },
		"slow":        func(r *proxy.Record) { r.Duration = time.Second },
		"failed":      func(r *proxy.Record) { r.Status = 502 },
		"refused":     func(r *proxy.Record) { r.Status, r.Code = 503, "queue-full" },
		"left":        func(r *proxy.Record) { r.Status, r.Code = proxy.StatusClientGone, "client-gone" },
		"broke off":   func(r *proxy.Record) { r.Code = "response-broke-off" },
	}
	for _, c := range []struct {
		sample float64
		slow   time.Duration
		want   string
	}{
		{1, 0, "broke off failed left not found ordinary refused slow unavailable"},
		{0, time.Second, "broke off failed left refused slow unavailable"},
		{0, 0, "broke off failed left refused unavailable"},
	} {
		tel := newTelemetry(t, Config{AccessLog: &AccessLog{Writer: &output{}, Format: JSON, Sample: c.sample, Slow: c.slow}})
		var logged []string
		for _, kind := range []string{"broke off", "failed", "left", "not found", "ordinary", "refused", "slow", "unavailable"} {
			r := record("/")
			kinds[kind](r)
			before := tel.lines.kept.Load()
			tel.Ended(r)
			if tel.lines.kept.Load() > before {
				logged = append(logged, kind)
			}
		}
		if got := strings.Join(logged, " "); got != c.want {
			t.Errorf("at %g with slow %v: %s, want %s", c.sample, c.slow, got, c.want)
		}
	}
	tel := newTelemetry(t, Config{AccessLog: &AccessLog{Writer: &output{}, Format: JSON, Sample: 0.1}})
	for range 5000 {
		tel.Ended(record("/"))
	}
	if n := tel.lines.kept.Load(); n < 300 || n > 800 {
		t.Errorf("of 5000 at 0.1 there are %d lines", n)
	}
}

// latch is a writer that takes nothing until it is opened.
type latch struct {
	open  chan struct{}
	began chan struct{}
	once  sync.Once
	output
}

func (g *latch) Write(p []byte) (int, error) {
	g.once.Do(func() { close(g.began) })
	<-g.open
	return g.output.Write(p)
}

func TestAStuckLogHoldsNobodyUp(t *testing.T) {
	out := &latch{open: make(chan struct{}), began: make(chan struct{})}
	tel := newTelemetry(t, Config{AccessLog: &AccessLog{Writer: out, Format: JSON, Sample: 1}})
	stop := run(t, tel)
	tel.Ended(record("/first"))
	<-out.began
	const more = 3 * maxEntries
	for range more {
		tel.Ended(record("/more"))
	}
	dropped := value(families(t, tel), "access_log_lines_total", "outcome=dropped")
	if dropped != more-maxEntries {
		t.Errorf("%v lines are dropped, want %d", dropped, more-maxEntries)
	}
	if told, again := tel.lines.untold(), tel.lines.untold(); float64(told) != dropped || again != 0 {
		t.Errorf("%d and then %d are to be told", told, again)
	}
	close(out.open)
	stop()
	if n := strings.Count(out.String(), "\n"); n != 1+maxEntries {
		t.Errorf("%d lines are written in the end, want %d", n, 1+maxEntries)
	}
}

func TestAStuckLogDoesNotKeepTheProxyFromEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &latch{open: make(chan struct{}), began: make(chan struct{})}
		tel := newTelemetry(t, Config{AccessLog: &AccessLog{Writer: out, Format: JSON, Sample: 1}})
		stop := run(t, tel)
		tel.Ended(record("/first"))
		<-out.began
		start := time.Now()
		stop()
		if took := time.Since(start); took != flushTimeout {
			t.Errorf("it took %v", took)
		}
		close(out.open)
	})
}

func TestHugeFieldsAreBounded(t *testing.T) {
	q := newQueue([]string{"X"}, time.Second, &outcomes{})
	for range maxEntries {
		r := record("/" + strings.Repeat("a", 60<<10))
		r.Request.Header.Set("X", strings.Repeat("b", 60<<10))
		q.put(r)
	}
	if n := len(q.filling.text); n > maxText+16*maxField {
		t.Errorf("%d bytes are kept", n)
	}
	if q.count.dropped.Load() == 0 {
		t.Error("nothing is dropped")
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	file, moved := filepath.Join(dir, "access.log"), filepath.Join(dir, "access.log.1")
	tel := newTelemetry(t, Config{AccessLog: &AccessLog{File: file, Format: JSON, Sample: 1}})
	stop := run(t, tel)
	read := func(name string) string { b, _ := os.ReadFile(name); return string(b) }
	tel.Ended(record("/before"))
	eventually(t, "the line before", func() bool { return strings.Contains(read(file), "/before") })
	if err := os.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	if err := tel.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := tel.Reopen(); err != nil { // twice in a row
		t.Fatal(err)
	}
	tel.Ended(record("/after"))
	eventually(t, "the line after", func() bool { return strings.Contains(read(file), "/after") })
	if strings.Contains(read(moved), "/after") || strings.Contains(read(file), "/before") {
		t.Error("the lines are in the wrong files")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := tel.Reopen(); err == nil {
		t.Error("a file that cannot be opened is no error")
	}
	stop()
}

func TestALogThatCannotBeOpened(t *testing.T) {
	_, err := New(t.Context(), Config{AccessLog: &AccessLog{File: filepath.Join(t.TempDir(), "no", "such")}}, hclog.NewNullLogger())
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// full is a writer on a disk that fills up in the middle of a line.
type full struct {
	room int
	b    bytes.Buffer
}

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.b.Write(p[:n])
	f.room -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func TestADiskThatFillsUp(t *testing.T) {
	out := &full{room: 100}
	tel := newTelemetry(t, Config{AccessLog: &AccessLog{Writer: out, Format: JSON, Sample: 1}})
	write := func(path string) {
		var b batch
		b.add(record(path), nil)
		tel.access.Load().write(&b)
	}
	write("/one")
	write("/two")
	out.room = 1 << 20
	write("/three")
	write("/four")
	var paths []string
	for line := range strings.Lines(out.b.String()) {
		var object struct{ Path string }
		if json.Unmarshal([]byte(line), &object) == nil {
			paths = append(paths, object.Path)
		}
	}
	if got := fmt.Sprint(paths); got != "[/three /four]" {
		t.Errorf("whole lines are of %s:\n%s", got, out.b.String())
	}
	if n := tel.lines.failed.Load(); n != 2 {
		t.Errorf("%d lines are said to be lost, want 2", n)
	}
}

func TestTooManyHeaders(t *testing.T) {
	c := AccessLog{Writer: &output{}, Headers: make([]string, MaxHeaders+1)}
	if _, err := New(t.Context(), Config{AccessLog: &c}, hclog.NewNullLogger()); err == nil {
		t.Error("nothing is said")
	}
}
