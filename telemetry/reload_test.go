package telemetry

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/serve-nomad/serve-nomad/proxy"
)

// Requests end all the while that the log goes from one file to another: each
// has a line, in one of them.
func TestNoLineIsLostWhileTheLogChanges(t *testing.T) {
	dir := t.TempDir()
	file := func(i int) string { return filepath.Join(dir, fmt.Sprint(i%3, ".log")) }
	logTo := func(i int) *AccessLog {
		return &AccessLog{File: file(i), Format: []Format{JSON, Combined}[i%2], Sample: 1}
	}
	tel := newTelemetry(t, Config{AccessLog: logTo(0)})
	stop := run(t, tel)
	var requests sync.WaitGroup
	var changed atomic.Bool
	var ended atomic.Uint64
	for range 4 {
		requests.Go(func() {
			for !changed.Load() {
				tel.Ended(record("/app"))
				ended.Add(1)
			}
		})
	}
	for i := range 50 {
		for before := ended.Load(); ended.Load() < before+20; {
			runtime.Gosched()
		}
		old := tel.access.Load()
		if err := tel.Reload(t.Context(), logTo(i+1), nil); err != nil {
			t.Error(err)
		}
		if old.note(record("/app")) {
			t.Error("a log that has retired takes a line, which it may never write")
		}
	}
	changed.Store(true)
	requests.Wait()
	stop()
	lines := 0
	for i := range 3 {
		text, err := os.ReadFile(file(i))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	f := families(t, tel)
	taken, dropped := value(f, "access_log_lines_total", "outcome=taken"), value(f, "access_log_lines_total", "outcome=dropped")
	if float64(lines) != taken || taken+dropped != float64(ended.Load()) {
		t.Errorf("of %d requests there are %d lines; %v are said to be taken, and %v dropped for want of room", ended.Load(), lines, taken, dropped)
	}
	if n := value(f, "access_log_lines_total", "outcome=failed"); n != 0 {
		t.Errorf("%v lines could not be written", n)
	}
}

func TestTheLogIsSwitchedOnAndOff(t *testing.T) {
	out := &output{}
	on := &AccessLog{Writer: out, Format: JSON, Sample: 1}
	tel := newTelemetry(t, Config{})
	reload := func(c *AccessLog) {
		t.Helper()
		if err := tel.Reload(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
	}
	tel.Ended(record("/never"))
	reload(on)
	tel.Ended(record("/before-run"))
	reload(nil) // what was taken before Run is written by it
	reload(&AccessLog{Writer: out, Format: JSON, Sample: 0})
	stop := run(t, tel)
	tel.Ended(record("/not-sampled"))
	reload(on)
	tel.Ended(record("/on"))
	reload(nil)
	eventually(t, "what the old log had is written", func() bool { return strings.Contains(out.String(), "/on") })
	tel.Ended(record("/off"))
	stop()
	reload(on) // too late, and harmless
	for path, want := range map[string]bool{"/never": false, "/before-run": true, "/not-sampled": false, "/on": true, "/off": false} {
		if strings.Contains(out.String(), path+`"`) != want {
			t.Errorf("%s has a line: %v, want %v", path, !want, want)
		}
	}
}

// What cannot be had changes nothing, not even the half that can.
func TestAReloadThatFails(t *testing.T) {
	dir := t.TempDir()
	was := &AccessLog{File: filepath.Join(dir, "a.log"), Format: JSON, Sample: 1}
	tel := newTelemetry(t, Config{AccessLog: was})
	stop := run(t, tel)
	t.Setenv("OTEL_TRACES_SAMPLER", "")
	log, tracer := tel.access.Load(), tel.tracer.Load()
	for what, err := range map[string]error{
		"a log": tel.Reload(t.Context(), &AccessLog{File: filepath.Join(dir, "no", "b.log")}, &Tracing{Endpoint: "http://127.0.0.1:1"}),
		"spans": func() error {
			t.Setenv("OTEL_TRACES_SAMPLER", "sometimes")
			return tel.Reload(t.Context(), nil, &Tracing{})
		}(),
	} {
		if err == nil || tel.access.Load() != log || tel.tracer.Load() != tracer {
			t.Errorf("%s that cannot be had: %v", what, err)
		}
	}
	tel.Ended(record("/still"))
	stop()
	if text, _ := os.ReadFile(was.File); !strings.Contains(string(text), "/still") {
		t.Error("the log from before is written no more")
	}
}

// A reload is enough after the file has been moved away, as when logrotate sends
// SIGHUP.
func TestAReloadOpensTheSameFileAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.log")
	c := AccessLog{File: file, Format: JSON, Sample: 1, Headers: []string{"User-Agent"}}
	tel := newTelemetry(t, Config{AccessLog: &c})
	defer run(t, tel)()
	was := tel.access.Load()
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	same := c
	if err := tel.Reload(t.Context(), &same, nil); err != nil {
		t.Fatal(err)
	}
	if tel.access.Load() != was {
		t.Error("the log was replaced, although nothing of it changed")
	}
	tel.Ended(record("/after"))
	eventually(t, "it is in the new file", func() bool {
		text, _ := os.ReadFile(file)
		return strings.Contains(string(text), "/after")
	})
}

func TestALogBeginsOnALineOfItsOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(file, []byte("whole\ntor"), 0o600); err != nil {
		t.Fatal(err)
	}
	tel := newTelemetry(t, Config{AccessLog: &AccessLog{File: file, Format: Combined, Sample: 1}})
	stop := run(t, tel)
	tel.Ended(record("/x"))
	stop()
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "whole\ntor\n192.0.2.7 ") {
		t.Errorf("%v: %q", err, text)
	}
}

// Spans go to the collector of the tracing that a request ends under, and none
// are made of a request that began before there was any.
func TestTracingChanges(t *testing.T) {
	first, second := newReceiver(t), newReceiver(t)
	tel := newTelemetry(t, Config{})
	stop := run(t, tel)
	reload := func(c *Tracing) {
		t.Helper()
		if err := tel.Reload(t.Context(), nil, c); err != nil {
			t.Fatal(err)
		}
	}
	early := record("/early")
	early.Prefix, early.Trace = "/early", proxy.Trace{ID: [16]byte{1}, Parent: [8]byte{2}, Flags: 1}
	tel.Began(early)
	reload(&Tracing{Endpoint: first.URL, Sample: all()})
	tel.Ended(early)
	request := func(path string) (end func()) {
		r := record(path)
		r.Prefix = path
		tel.Began(r)
		return func() { tel.Ended(r) }
	}
	request("/one")()
	across := request("/across")
	reload(&Tracing{Endpoint: second.URL, Sample: all()})
	across()
	request("/two")()
	reload(nil)
	request("/off")()
	stop()
	for name, want := range map[string]*receiver{"/one": first, "/across": second, "/two": second, "/early": nil, "/off": nil} {
		for _, c := range []*receiver{first, second} {
			if there := c.spans["GET "+name] != nil; there != (c == want) {
				t.Errorf("the span of %s is at the collector: %v", name, there)
			}
		}
	}
	if n := value(families(t, tel), "traced_requests_total", "outcome=taken"); n != 3 {
		t.Errorf("%v requests are counted", n)
	}
}

// A collector that hangs keeps the tracing from before busy, and nobody else.
func TestTracingLeavesACollectorThatHangs(t *testing.T) {
	hang, asked := make(chan struct{}), make(chan struct{}, 1)
	stuck := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		signal(asked)
		<-hang
	}))
	defer stuck.Close()
	defer close(hang)
	next := newReceiver(t)
	tel := newTelemetry(t, Config{Tracing: &Tracing{Endpoint: stuck.URL, Sample: all()}})
	stop := run(t, tel)
	r := record("/app")
	tel.Began(r)
	tel.Ended(r)
	<-asked
	if err := tel.Reload(t.Context(), nil, &Tracing{Endpoint: next.URL, Sample: all()}); err != nil {
		t.Fatal(err)
	}
	r = record("/app")
	tel.Began(r)
	tel.Ended(r)
	stop()
	if next.spans["GET /app"] == nil {
		t.Error("the new collector has no span")
	}
}
