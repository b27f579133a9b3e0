package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
)

// What a Cluster and the other parts behind a Server say in errors. Any other
// error of Cluster.Propose leaves the outcome unknown.
var (
	ErrNoLeader    = errors.New("no leader") // nothing was done; also when this server lost its leadership before it wrote
	ErrNotFound    = errors.New("not found")
	ErrUnavailable = errors.New("unavailable") // Nomad or Consul did not answer
)

// Code says what kind of error an ErrorResponse is.
type Code string

// The kinds of error.
const (
	CodeInvalid          Code = "invalid"
	CodeForbidden        Code = "forbidden"
	CodeNotFound         Code = "not_found"
	CodeMethodNotAllowed Code = "method_not_allowed"
	CodeTimeout          Code = "timeout" // the request's body did not come
	CodeConflict         Code = "conflict"
	CodeTooLarge         Code = "too_large"
	CodeUnsupportedMedia Code = "unsupported_media_type"
	CodeRequestIDReused  Code = "request_id_reused"
	CodeTooManyRequests  Code = "too_many_requests"
	CodeInternal         Code = "internal"
	CodeUnknownOutcome   Code = "unknown_outcome" // the write may or may not have been done
	CodeNoLeader         Code = "no_leader"       // nothing was done
	CodeUnavailable      Code = "unavailable"     // nothing was done
)

// status is the one place where codes become HTTP statuses.
func (c Code) status() int {
	switch c {
	case CodeInvalid:
		return http.StatusBadRequest
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeTimeout:
		return http.StatusRequestTimeout
	case CodeConflict:
		return http.StatusConflict
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case CodeRequestIDReused:
		return http.StatusUnprocessableEntity
	case CodeTooManyRequests:
		return http.StatusTooManyRequests
	case CodeNoLeader, CodeUnavailable:
		return http.StatusServiceUnavailable
	case CodeInternal, CodeUnknownOutcome:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// failure is an error that knows the answer that it makes.
type failure struct {
	ErrorResponse
	allow string // for the Allow header
	cause error
}

func (f *failure) Error() string { return f.ErrorResponse.Error }
func (f *failure) Unwrap() error { return f.cause }

func fail(code Code, format string, args ...any) *failure {
	return &failure{ErrorResponse: ErrorResponse{Code: code, Error: fmt.Sprintf(format, args...)}}
}

func faulty(message string, faults []appspec.Fault) *failure {
	return &failure{ErrorResponse: ErrorResponse{Code: CodeInvalid, Error: message, Faults: faults}}
}

// asFailure is the one place where errors become codes.
func asFailure(err error) *failure {
	var known *failure
	var refusal *raftstate.Refusal
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refusal):
		return fail(refusalCode(refusal.Code), "%s", refusal.Message)
	case errors.Is(err, ErrNoLeader):
		return fail(CodeNoLeader, "%s", noLeaderText)
	case errors.Is(err, ErrNotFound):
		return fail(CodeNotFound, "%s", err)
	case errors.Is(err, ErrUnavailable):
		return fail(CodeUnavailable, "%s", err)
	default:
		f := fail(CodeInternal, "%s", err)
		f.cause = err
		return f
	}
}

func refusalCode(code raftstate.ErrorCode) Code {
	switch code {
	case raftstate.CodeInvalid:
		return CodeInvalid
	case raftstate.CodeNotFound:
		return CodeNotFound
	case raftstate.CodeConflict:
		return CodeConflict
	default:
		return CodeInternal
	}
}

const noLeaderText = "no server leads at the moment, so nothing was done: an election is under way, " +
	"fewer than half of the servers are up, or they cannot write to their data_dir, which their logs would say; " +
	"what runs goes on serving (?stale, or -stale on a command line, reads what this server knew last)"

// writeError answers with err.
func writeError(w http.ResponseWriter, err error) {
	f := asFailure(err)
	if f.allow != "" {
		w.Header().Set("Allow", f.allow)
	}
	status := f.Code.status()
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, f.ErrorResponse)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status = http.StatusInternalServerError
		data = []byte(`{"error":"the answer cannot be written as JSON","code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a client that has gone away hears nothing
}
