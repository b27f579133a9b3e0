package autoscale

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/loads"
)

// Bounds on a trace; past them it is refused.
const (
	MaxTraceLines     = 1_000_000
	maxTraceLine      = 4096 // bytes
	maxTraceSeconds   = 1e9  // of "at": 31 years
	maxServiceSeconds = 1e6
	maxTraceReplicas  = 1_000_000
	maxTraceMetric    = 1e15
)

// Trace is the load that Replay runs a policy over. It is never changed.
type Trace struct {
	lines []TraceLine // in order of time, each at a time of its own
	kind  traceKind
}

// TraceLine is what holds from a moment on, until the next line.
type TraceLine struct {
	At          time.Duration // since the run's beginning
	Requests    float64       // queued plus ongoing, of all proxies together
	Rate        float64       // new requests in a second; of a simulated trace
	ServiceTime time.Duration // that a replica needs for a request in the mean; of a simulated trace
	Running     *int          // replicas that run, whatever is wanted; nil: as before
	Metric      *float64      // what the block's metric source says; nil: as before
}

// traceKind is what a trace gives: the requests that there are, or those that
// come.
type traceKind string

const (
	kindRequests traceKind = "requests"
	kindRate     traceKind = "rate"
)

// The keys of a trace's line.
const (
	keyAt      = "at"
	keyService = "seconds_per_request"
	keyRunning = "running"
	keyMetric  = "metric"
	keyTarget  = "target" // what was wanted when it was recorded; a replay finds its own
)

// Simulated says whether the trace gives the requests that come and the time
// that they need. Then how many there are follows from a simulated queue.
func (t *Trace) Simulated() bool { return t.kind == kindRate }

// Metered says whether the trace has values of the metric source.
func (t *Trace) Metered() bool {
	for i := range t.lines {
		if t.lines[i].Metric != nil {
			return true
		}
	}
	return false
}

// ReadTrace reads a trace: a JSON object a line, with "at" in seconds and
// either "requests" or both "rate" and "seconds_per_request"; "running" and
// "metric" may be added. A "target", as records have it, is passed over. An
// error names the line.
func ReadTrace(r io.Reader) (*Trace, error) {
	t := &Trace{}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, maxTraceLine), maxTraceLine)
	number := 0
	for scanner.Scan() {
		number++
		if number > MaxTraceLines {
			return nil, fmt.Errorf("line %d: a trace has at most %d lines", number, MaxTraceLines)
		}
		text := scanner.Bytes()
		if number == 1 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 {
			continue
		}
		if err := t.read(text); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d: it is longer than %d bytes", number+1, maxTraceLine)
	case err != nil:
		return nil, err
	case len(t.lines) == 0:
		return nil, errors.New(`the trace is empty: it needs lines such as {"at": 0, "requests": 2}`)
	}
	return t, nil
}

// read adds one line.
func (t *Trace) read(text []byte) error {
	values, err := numbersOf(text)
	if err != nil {
		return err
	}
	kind, err := kindOf(values)
	if err != nil {
		return err
	}
	if t.kind != "" && t.kind != kind {
		return fmt.Errorf("it has %q and the lines before have %q: a trace has one of the two", kind, t.kind)
	}
	t.kind = kind
	line, err := lineOf(values)
	if err != nil {
		return err
	}
	if len(t.lines) > 0 {
		last := t.lines[len(t.lines)-1]
		switch {
		case line.At < last.At:
			return fmt.Errorf(`"at" is %s, and the line before is at %s: times must grow`, values[keyAt], seconds(last.At))
		case line.At == last.At && !reflect.DeepEqual(line, last):
			return fmt.Errorf(`"at" is %s as in the line before, which says something else: times must grow`, values[keyAt])
		case line.At == last.At:
			return nil
		}
	}
	t.lines = append(t.lines, line)
	return nil
}

// numbersOf reads a JSON object of numbers. What is null is as if it were not
// there.
func numbersOf(text []byte) (map[string]json.Number, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if first, err := decoder.Token(); err != nil {
		return nil, notJSON(err)
	} else if first != json.Delim('{') {
		return nil, errors.New(`it is not a JSON object such as {"at": 0, "requests": 2}`)
	}
	values := map[string]json.Number{}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		key := fmt.Sprint(token) // of an object a string
		if err := checkKey(key, seen); err != nil {
			return nil, err
		}
		token, err = decoder.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		switch value := token.(type) {
		case json.Number:
			values[key] = value
		case nil:
		default:
			return nil, fmt.Errorf("%q must be a number", key)
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return nil, notJSON(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the JSON object: each line has one")
	}
	return values, nil
}

func notJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is not JSON: it ends too soon")
	}
	return fmt.Errorf("it is not JSON: %w", err)
}

func checkKey(key string, seen map[string]bool) error {
	switch key {
	case keyAt, string(kindRequests), string(kindRate), keyService, keyRunning, keyMetric, keyTarget:
	default:
		known := []string{keyAt, string(kindRequests), string(kindRate), keyService, keyRunning, keyMetric, keyTarget}
		if near := appspec.Nearest(key, known); near != "" {
			return fmt.Errorf("there is no key %s; did you mean %q?", quote(key), near)
		}
		return fmt.Errorf("there is no key %s; there are %s", quote(key), strings.Join(known, ", "))
	}
	if seen[key] {
		return fmt.Errorf("%q is there twice", key)
	}
	seen[key] = true
	return nil
}

// quote shows what may be anything, and long.
func quote(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}

func kindOf(values map[string]json.Number) (traceKind, error) {
	has := func(key string) bool { return values[key] != "" }
	requests, rate := has(string(kindRequests)), has(string(kindRate)) || has(keyService)
	switch {
	case !has(keyAt):
		return "", errors.New(`"at" is missing: the seconds since the beginning`)
	case requests && rate:
		return "", errors.New(`it has both "requests" and "rate" or "seconds_per_request": give either the requests that there are or those that come`)
	case requests:
		return kindRequests, nil
	case rate && !has(string(kindRate)):
		return "", errors.New(`"rate" is missing: the requests that come in a second`)
	case rate && !has(keyService):
		return "", errors.New(`"seconds_per_request" is missing: the time that a replica needs for a request`)
	case rate:
		return kindRate, nil
	default:
		return "", errors.New(`"requests" is missing: those queued and ongoing from then on`)
	}
}

// lineOf turns numbers into a line.
func lineOf(values map[string]json.Number) (TraceLine, error) {
	at, err := within(values, keyAt, maxTraceSeconds)
	if err != nil {
		return TraceLine{}, err
	}
	line := TraceLine{At: ofSeconds(at)}
	if line.Requests, err = within(values, string(kindRequests), loads.MaxRequests); err != nil {
		return TraceLine{}, err
	}
	if line.Rate, err = within(values, string(kindRate), loads.MaxRequests); err != nil {
		return TraceLine{}, err
	}
	service, err := within(values, keyService, maxServiceSeconds)
	if err != nil {
		return TraceLine{}, err
	}
	line.ServiceTime = ofSeconds(service)
	if values[keyService] != "" && line.ServiceTime == 0 {
		return TraceLine{}, fmt.Errorf("%q must be more than 0, not %s", keyService, values[keyService])
	}
	if values[keyRunning] != "" {
		x, err := within(values, keyRunning, maxTraceReplicas)
		if err != nil {
			return TraceLine{}, err
		}
		n := int(x)
		if float64(n) != x {
			return TraceLine{}, fmt.Errorf("%q must be a whole number, not %s", keyRunning, values[keyRunning])
		}
		line.Running = &n
	}
	if values[keyMetric] != "" {
		x, err := within(values, keyMetric, maxTraceMetric)
		if err != nil {
			return TraceLine{}, err
		}
		line.Metric = &x
	}
	return line, nil
}

// within reads a number from 0 to most; 0 if there is none.
func within(values map[string]json.Number, key string, most float64) (float64, error) {
	text, ok := values[key]
	if !ok {
		return 0, nil
	}
	x, err := text.Float64()
	if err != nil || math.IsNaN(x) || x < 0 || x > most {
		return 0, fmt.Errorf("%q must be a number from 0 to %s, not %s", key, strconv.FormatFloat(most, 'f', -1, 64), clipNumber(text))
	}
	return math.Abs(x), nil // -0 is 0
}

func clipNumber(text json.Number) string {
	const most = 32
	if len(text) > most {
		return string(text[:most]) + "..."
	}
	return string(text)
}

// ofSeconds is exact to the nanosecond up to 100 days, and nearly after that.
func ofSeconds(x float64) time.Duration {
	return time.Duration(math.Round(x * float64(time.Second)))
}

// seconds writes a time of the run.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}
