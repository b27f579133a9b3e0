package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[1,]`, `{"a":1,}`, `{"a":1 "b":2}`, `[1 2]`, `"a`, `1e5`, `01`, `-`, `nul`, `{"a":{"a":[{"a":null}]}}`, `{"a":1,"a":2}`, "{}\x00", `[[],{}] x`,
		`{"a":"\ud800"}`, "\ufeff{}", `{1:2}`, `{"a":}`, `[,1]`, `}`, `]`, `:`, `,`, "", strings.Repeat("[", 200),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		err := checkJSON(body)
		if err == nil && !json.Valid(body) {
			t.Errorf("took what is not JSON: %q", body)
		}
		if err != nil && json.Valid(body) && !bytes.ContainsAny(body, `"`) && len(body) < maxDepth {
			t.Errorf("refused JSON that has no keys and is not deep: %q: %v", body, err)
		}
	})
}

func TestLastLines(t *testing.T) {
	for _, c := range []struct {
		name, data, want string
		lines, bytes     int
	}{
		{"nothing", "", "", 3, 100},
		{"fewer than asked for", "a\nb\n", "a\nb\n", 3, 100},
		{"the last two", "a\nb\nc\n", "b\nc\n", 2, 100},
		{"the last is not finished", "a\nb\nc", "b\nc", 2, 100},
		{"empty lines count", "a\n\n\n", "\n\n", 2, 100},
		{"a first line that was cut is left out", "tail of a\nb\n", "b\n", 5, 5},
		{"one long line that was cut is better than nothing", "tail of a", "tail of a", 5, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := lastLines([]byte(c.data), tailOf{c.lines, c.bytes}); string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
