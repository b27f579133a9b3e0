package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"time"
	"unicode/utf8"
)

// Limits on what a request may bring.
const (
	maxBody     = 4 << 20
	maxReport   = 16 << 20 // of a proxy's load, in which thousands of deployments are usual
	maxDepth    = 100      // of objects and arrays in each other
	bodyTimeout = 30 * time.Second
)

// jsonSpace is what JSON takes for space, which is less than Go does.
const jsonSpace = " \t\r\n"

// readBody takes the whole body in, within the limits. Nothing has looked at
// what it says yet.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) { return readUpTo(w, r, maxBody) }

// readUpTo is readBody with a limit of its own, in bytes.
func readUpTo(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if r.ContentLength > most {
		return nil, tooLarge(most)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	control := http.NewResponseController(w)
	// Not every ResponseWriter has a deadline to set; the server's own holds then.
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	_ = control.SetReadDeadline(time.Time{})
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return nil, tooLarge(most)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, fail(CodeTimeout, "the body did not come within %s", bodyTimeout)
	case err != nil:
		return nil, fail(CodeInvalid, "read the body: %s", err)
	}
	return body, nil
}

func tooLarge(most int64) error {
	return fail(CodeTooLarge, "the body is larger than %d MiB", most>>20)
}

// checkMedia refuses a body that is not plain JSON, which also keeps HTML forms
// of other sites out.
func checkMedia(r *http.Request) error {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return fail(CodeUnsupportedMedia, "Content-Encoding %q is not taken: send the body as it is", enc)
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return fail(CodeUnsupportedMedia, "Content-Type must be application/json, not %q", r.Header.Get("Content-Type"))
	}
	if charset, given := params["charset"]; given && charset != "utf-8" && charset != "UTF-8" {
		return fail(CodeUnsupportedMedia, "charset must be utf-8, not %q", charset)
	}
	return nil
}

// decodeJSON reads exactly one JSON value into v. What v has no field for, a
// key that comes twice, and anything behind the value is refused.
func decodeJSON(body []byte, v any) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fail(CodeInvalid, "%s", jsonMessage(body, err))
	}
	return nil
}

// checkJSON looks at the form alone, token by token, so that deep nesting is
// refused before anything recurses into it.
func checkJSON(body []byte) error {
	if len(bytes.Trim(body, jsonSpace)) == 0 {
		return fail(CodeInvalid, "the body is empty: send a JSON object")
	}
	if !utf8.Valid(body) {
		return fail(CodeInvalid, "the body is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var open []scope
	for first := true; first || len(open) > 0; first = false {
		token, err := dec.Token()
		if err != nil {
			return fail(CodeInvalid, "%s", jsonMessage(body, err))
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if len(open) == maxDepth {
				return fail(CodeInvalid, "JSON nested more than %d deep, at byte %d", maxDepth, dec.InputOffset())
			}
			if len(open) > 0 {
				open[len(open)-1].value()
			}
			open = append(open, newScope(token))
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
			continue
		}
		if len(open) == 0 {
			continue
		}
		if key, twice := open[len(open)-1].take(token); twice {
			return fail(CodeInvalid, "key %q comes twice in one object, at byte %d", key, dec.InputOffset())
		}
	}
	if rest := bytes.Trim(body[dec.InputOffset():], jsonSpace); len(rest) > 0 {
		return fail(CodeInvalid, "something follows the JSON value, at byte %d", len(body)-len(rest))
	}
	return nil
}

// scope is one object or array that is open.
type scope struct {
	keys    map[string]bool // nil: an array
	wantKey bool
}

func newScope(open json.Token) scope {
	if open == json.Delim('{') {
		return scope{keys: map[string]bool{}, wantKey: true}
	}
	return scope{}
}

// value notes that a key has got its value.
func (s *scope) value() { s.wantKey = s.keys != nil }

// take notes one string, number, boolean or null.
func (s *scope) take(token json.Token) (key string, twice bool) {
	if !s.wantKey {
		s.value()
		return "", false
	}
	key, _ = token.(string)
	twice = s.keys[key]
	s.keys[key] = true
	s.wantKey = false
	return key, twice
}

// jsonMessage says what is wrong with body, and where.
func jsonMessage(body []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON ends too early"
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON: %s, %s", syntax, position(body, syntax.Offset))
	case errors.As(err, &kind):
		return fmt.Sprintf("%s cannot be a JSON %s, %s", cmp.Or(kind.Field, "the body"), kind.Value, position(body, kind.Offset))
	default:
		return err.Error()
	}
}

func position(body []byte, offset int64) string {
	before := body[:min(max(offset, 0), int64(len(body)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Sprintf("at line %d, column %d", line, max(column, 1))
}
