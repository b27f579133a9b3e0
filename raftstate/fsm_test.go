package raftstate

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

func TestAnEntryThatCannotBeReadIsARefusal(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":            "",
		"not JSON":           "\x00\xff",
		"another type":       `[]`,
		"no version":         `{}`,
		"a version to come":  `{"v":2,"scale":{}}`,
		"a wrong field type": `{"v":1,"scale":{"replicas":"two"}}`,
		"nested too deep":    `{"v":1,"deploy":` + strings.Repeat(`[`, 20_000),
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFSM()
			applyEntry(t, f, 1, at(0, deploy(spec("a", "web"), "1")))
			r, ok := f.Apply(&raft.Log{Index: 2, Data: []byte(data)}).(Result)
			if !ok || r.Code != CodeInvalid || r.Index != 2 {
				t.Errorf("got %+v", r)
			}
			if s := f.State(); s.Index != 2 || s.Applications["a"] == nil {
				t.Errorf("index %d with %d applications", s.Index, len(s.Applications))
			}
		})
	}
}

func TestAWatcherSeesEveryChange(t *testing.T) {
	f := NewFSM()
	for i := range 3 {
		s, changed := f.Watch()
		if changed != f.Changed() || s != f.State() {
			t.Fatal("Watch, Changed and State disagree")
		}
		select {
		case <-changed:
			t.Fatal("woken too early")
		default:
		}
		applyEntry(t, f, uint64(i+1), at(i, scale("a", "web", 1)))
		<-changed
	}
	s, changed := f.Watch()
	if err := f.Restore(io.NopCloser(strings.NewReader(encoded(t, s)))); err != nil {
		t.Fatal(err)
	}
	<-changed
}

func TestPersistWritesWhatRestoreReads(t *testing.T) {
	f := NewFSM()
	applyEntry(t, f, 1, at(0, deploy(spec("a", "web"), "1")))
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := encoded(t, f.State())
	applyEntry(t, f, 2, at(1, scale("a", "web", 7))) // Raft applies while Persist runs
	sink := &fakeSink{}
	if err := snap.Persist(sink); err != nil || !sink.closed {
		t.Fatalf("persist: %v, closed %v", err, sink.closed)
	}
	snap.Release()
	g := NewFSM()
	if err := g.Restore(io.NopCloser(&sink.Buffer)); err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, g.State()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestASnapshotThatCannotBeWrittenIsCancelled(t *testing.T) {
	snap, err := NewFSM().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &fakeSink{full: true}
	if err := snap.Persist(sink); !errors.Is(err, errFull) || !sink.cancelled || sink.closed {
		t.Errorf("got %v, cancelled %v, closed %v", err, sink.cancelled, sink.closed)
	}
}

func TestABadSnapshotIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ data, says string }{
		"nothing":                   {"", "EOF"},
		"half of one":               {`{"v":1,"state":{"index":`, "unexpected EOF"},
		"a version to come":         {`{"v":2,"state":{}}`, "version 2 is not known"},
		"no state":                  {`{"v":1}`, "no state"},
		"something after it":        {`{"v":1,"state":{}} {}`, "something follows"},
		"an application of no name": {`{"v":1,"state":{"applications":{"a":null}}}`, "not what its key says"},
		"an application of another": {`{"v":1,"state":{"applications":{"a":{"name":"b"}}}}`, "not what its key says"},
		"no version":                {`{"v":1,"state":{"applications":{"a":{"name":"a"}}}}`, "lacks a version"},
		"no version in its history": {
			`{"v":1,"state":{"applications":{"a":{"name":"a","serving":{"spec":{}},"wanted":{"spec":{}},"history":[{}]}}}}`,
			"in its history",
		},
		"a hole among deployments": {
			`{"v":1,"state":{"applications":{"a":{"name":"a","serving":{"spec":{"deployments":[null]}},"wanted":{"spec":{}}}}}}`,
			"lacks a version",
		},
		"a group of no name":       {`{"v":1,"state":{"worker_groups":{"g":null}}}`, "not what its key says"},
		"a group without a spec":   {`{"v":1,"state":{"worker_groups":{"g":{"name":"g"}}}}`, "not what its key says"},
		"a group with a hole":      {`{"v":1,"state":{"worker_groups":{"g":{"name":"g","spec":{"name":"g","node_pool":"g","schedule":[null]}}}}}`, "holds nothing"},
		"a node of no name":        {`{"v":1,"state":{"nodes":{"n":null}}}`, "not what its key says"},
		"a node of no group":       {`{"v":1,"state":{"nodes":{"n":{"id":"n","group":"g","phase":"ready"}}}}`, "which there is not"},
		"a node in no known phase": {`{"v":1,"state":{"worker_groups":{"g":{"name":"g","spec":{"name":"g","node_pool":"g"}}},"nodes":{"n":{"id":"n","group":"g","phase":"odd"}}}}`, `phase "odd"`},
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFSM()
			applyEntry(t, f, 1, at(0, deploy(spec("a", "web"), "1")))
			err := f.Restore(io.NopCloser(strings.NewReader(test.data)))
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v, want %q", err, test.says)
			}
			if f.State().Applications["a"] == nil {
				t.Error("the State from before is gone")
			}
		})
	}
}

func TestASnapshotIsReadUpToItsBound(t *testing.T) {
	data := encoded(t, NewFSM().State())
	size := int64(len(data))
	if _, err := decodeSnapshot(strings.NewReader(data), size); err != nil {
		t.Error(err)
	}
	if _, err := decodeSnapshot(strings.NewReader(data), size-5); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

// testdata/v1.jsonl and its like are logs that were written once and must apply
// for ever, to the very same State. A change that breaks this test breaks
// clusters: give the changed command a new version instead.
func TestAnOldLogAppliesForEver(t *testing.T) {
	for _, name := range []string{"v1", "v1-autoscale", "v1-nodes", "v1-rollouts"} {
		t.Run(name, func(t *testing.T) {
			log, err := os.ReadFile(filepath.Join("testdata", name+".jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			f := NewFSM()
			for i, line := range splitLines(log) {
				f.Apply(&raft.Log{Index: uint64(i + 1), Data: line})
			}
			file, err := os.Open(filepath.Join("testdata", name+".state.json"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			state, err := DecodeSnapshot(file)
			if err != nil {
				t.Fatal(err)
			}
			want := encoded(t, state) // written again: a new optional field is no difference
			if got := encoded(t, f.State()); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if got := encoded(t, restored(t, f.State())); got != want {
				t.Errorf("restored, it is %s", got)
			}
		})
	}
}

var errFull = errors.New("disk full")

type fakeSink struct {
	bytes.Buffer
	full, closed, cancelled bool
}

func (s *fakeSink) Write(p []byte) (int, error) {
	if s.full {
		return 0, errFull
	}
	return s.Buffer.Write(p)
}

func (s *fakeSink) ID() string    { return "fake" }
func (s *fakeSink) Close() error  { s.closed = true; return nil }
func (s *fakeSink) Cancel() error { s.cancelled = true; return nil }
