package autoscale_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/serve-nomad/serve-nomad/autoscale"
)

func TestTraceFaultsAreNamedWithTheirLine(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "the trace is empty"},
		{"blank", "\n \r\n\n", "the trace is empty"},
		{"not JSON", "{\"at\": 0, \"requests\": 1}\nat 5", "line 2: it is not JSON: invalid character 'a'"},
		{"NaN", `{"at": 0, "requests": NaN}`, "line 1: it is not JSON: invalid character 'N'"},
		{"cut off", `{"at": 0, "requests": 1`, "line 1: it is not JSON: it ends too soon"},
		{"no comma", `{"at": 0 "requests": 1}`, "line 1: it is not JSON"},
		{"a list", `[0, 1]`, "line 1: it is not a JSON object"},
		{"a number", `17`, "line 1: it is not a JSON object"},
		{"two objects", `{"at": 0, "requests": 1} {"at": 1, "requests": 1}`, "line 1: there is something after the JSON object"},
		{"a brace too many", `{"at": 0, "requests": 1}}`, "line 1: there is something after the JSON object"},
		{"unknown key", `{"at": 0, "request": 1}`, `line 1: there is no key "request"; did you mean "requests"?`},
		{"key in capitals", `{"At": 0, "requests": 1}`, `line 1: there is no key "At"; did you mean "at"?`},
		{"far key", `{"at": 0, "concurrency": 1}`, `line 1: there is no key "concurrency"; there are at, requests, rate`},
		{"long key", `{"` + strings.Repeat("x", 100) + `": 1}`, `line 1: there is no key "` + strings.Repeat("x", 64) + `"...;`},
		{"twice", `{"at": 0, "at": 1, "requests": 1}`, `line 1: "at" is there twice`},
		{"no time", `{"requests": 1}`, `line 1: "at" is missing`},
		{"null for time", `{"at": null, "requests": 1}`, `line 1: "at" is missing`},
		{"no load", `{"at": 0}`, `line 1: "requests" is missing`},
		{"text", `{"at": 0, "requests": "1"}`, `line 1: "requests" must be a number`},
		{"object", `{"at": {"x": [1]}, "requests": 1}`, `line 1: "at" must be a number`},
		{"negative load", "\n\n" + `{"at": 0, "requests": -1}`, `line 3: "requests" must be a number from 0 to 1000000000, not -1`},
		{"huge load", `{"at": 0, "requests": 1e300}`, `line 1: "requests" must be a number from 0 to 1000000000, not 1e300`},
		{"infinite load", `{"at": 0, "requests": 1e999}`, `line 1: "requests" must be a number from 0 to 1000000000, not 1e999`},
		{"load of 1e18", `{"at": 0, "requests": 1e18}`, `line 1: "requests" must be`},
		{"many digits", `{"at": 0, "requests": ` + strings.Repeat("9", 100) + `}`, "not " + strings.Repeat("9", 32) + "..."},
		{"negative time", `{"at": -0.1, "requests": 1}`, `line 1: "at" must be a number from 0`},
		{"huge time", `{"at": 1e10, "requests": 1}`, `line 1: "at" must be a number from 0`},
		{"time goes back", "{\"at\": 5, \"requests\": 1}\n{\"at\": 4.5, \"requests\": 1}", `line 2: "at" is 4.5, and the line before is at 5: times must grow`},
		{"time stands", "{\"at\": 5, \"requests\": 1}\n{\"at\": 5, \"requests\": 2}", `line 2: "at" is 5 as in the line before, which says something else`},
		{"time stands for replicas", "{\"at\": 5, \"requests\": 1}\n{\"at\": 5, \"requests\": 1, \"running\": 0}", `line 2: "at" is 5 as in the line before`},
		{"half a replica", `{"at": 0, "requests": 1, "running": 1.5}`, `line 1: "running" must be a whole number, not 1.5`},
		{"negative replicas", `{"at": 0, "requests": 1, "running": -1}`, `line 1: "running" must be a number from 0`},
		{"very many replicas", `{"at": 0, "requests": 1, "running": 1e7}`, `line 1: "running" must be a number from 0`},
		{"negative metric", `{"at": 0, "requests": 1, "metric": -1}`, `line 1: "metric" must be a number from 0`},
		{"no service time", `{"at": 0, "rate": 1}`, `line 1: "seconds_per_request" is missing`},
		{"no rate", `{"at": 0, "seconds_per_request": 1}`, `line 1: "rate" is missing`},
		{"no time to serve", `{"at": 0, "rate": 1, "seconds_per_request": 0}`, `line 1: "seconds_per_request" must be more than 0, not 0`},
		{"both", `{"at": 0, "requests": 1, "rate": 1}`, `line 1: it has both "requests" and "rate"`},
		{"first one, then the other", "{\"at\": 0, \"requests\": 1}\n{\"at\": 1, \"rate\": 1, \"seconds_per_request\": 1}", `line 2: it has "rate" and the lines before have "requests"`},
		{"long line", "{\"at\": 0, \"requests\": 1}\n" + strings.Repeat(" ", 5000) + "\n", "line 2: it is longer than 4096 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			trace, err := autoscale.ReadTrace(strings.NewReader(test.text))
			if err == nil || trace != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestTraceReadsWhatIsRight(t *testing.T) {
	for _, text := range []string{
		`{"at": 0, "requests": 1}`,
		"{\"at\": 0.5, \"requests\": 0.25}\r\n\r\n{\"requests\": 1e3, \"at\": 1e2, \"running\": 2.0, \"metric\": null}",
		"{\"at\":5,\"requests\":1}\n{\"at\":5,\"requests\":1}\n",
		`{"at": 0, "rate": 0, "seconds_per_request": 0.001, "running": 0}`,
		`{"at": -0, "requests": -0.0}`,
	} {
		if _, err := autoscale.ReadTrace(strings.NewReader(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// However much there is, it is not all read before it is refused.
func TestTraceMayBeginWithAByteOrderMark(t *testing.T) {
	const mark = "\xef\xbb\xbf"
	if _, err := autoscale.ReadTrace(strings.NewReader(mark + "{\"at\": 0, \"requests\": 4}\r\n")); err != nil {
		t.Error(err)
	}
	if _, err := autoscale.ReadTrace(strings.NewReader("{\"at\": 0, \"requests\": 4}\n" + mark + "{\"at\": 1, \"requests\": 4}")); err == nil {
		t.Error("a mark in the middle was read")
	}
}

func TestTraceIsBounded(t *testing.T) {
	endless := func(text string) io.Reader {
		return readerFunc(func(p []byte) (int, error) {
			n := 0
			for n+len(text) <= len(p) {
				n += copy(p[n:], text)
			}
			return n, nil
		})
	}
	for name, test := range map[string]struct {
		source io.Reader
		want   string
	}{
		"lines": {endless("\n"), "line 1000001: a trace has at most 1000000 lines"},
		"bytes": {endless("x"), "line 1: it is longer than"},
		"fault": {iotest.ErrReader(errors.New("gone")), "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := autoscale.ReadTrace(test.source); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// FuzzReadTrace holds that whatever is read is either refused with its line, or
// can be replayed.
func FuzzReadTrace(f *testing.F) {
	for _, seed := range []string{
		"", "{", "null", `{"at": 0, "requests": 1}`, "{\"at\": 0, \"requests\": 3, \"running\": 2}\n{\"at\": 2.5, \"requests\": 0}\n",
		"{\"at\": 0, \"rate\": 5, \"seconds_per_request\": 0.2}\n{\"at\": 1, \"rate\": 0, \"seconds_per_request\": 9}\n", `{"at": 1e-9, "requests": 1e-300}`,
	} {
		f.Add([]byte(seed))
	}
	policy, err := autoscale.Compile(replayBlock(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		trace, err := autoscale.ReadTrace(bytes.NewReader(text))
		if err != nil {
			if message := err.Error(); !strings.HasPrefix(message, "line ") && !strings.HasPrefix(message, "the trace is empty") {
				t.Errorf("an error without a place: %s", message)
			}
			return
		}
		result, err := autoscale.Replay(policy, trace, autoscale.ReplayOptions{
			Tick: 100 * time.Millisecond, Until: 5 * time.Second, Queue: autoscale.QueueOptions{MaxOngoing: 2, MaxQueued: 5},
		})
		if err != nil {
			if !strings.Contains(err.Error(), "can be simulated") {
				t.Error(err)
			}
			return
		}
		for _, c := range result.Changes {
			if c.Target < 0 || c.Target > 100 || c.Desired < 0 || c.Load < 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}
