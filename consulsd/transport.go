package consulsd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// maxAnswer is how many bytes one answer of Consul's may have.
const maxAnswer = 64 << 20

// errTooLong is an answer that was cut off at maxAnswer.
var errTooLong = errors.New("the answer is longer than any of Consul's should be")

// errReconnected is a blocking query whose connection broke before its answer.
var errReconnected = errors.New("the connection broke while waiting")

// guardedTransport cuts off answers that no honest Consul would send, and does
// not let a blocking query move to another connection by itself. net/http
// sends a GET again when a connection that was used before breaks; but a
// Consul that has come back without its data would let the same index wait
// for the whole length of the query.
type guardedTransport struct {
	inner     http.RoundTripper
	maxAnswer int64 // bytes
}

// RoundTrip implements http.RoundTripper.
func (t guardedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	if r.Method == http.MethodGet && r.URL.Query().Has("index") {
		var connections atomic.Int32
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) {
				if connections.Add(1) > 1 {
					cancel(errReconnected)
				}
			},
		})
	}
	response, err := t.inner.RoundTrip(r.WithContext(ctx))
	if errors.Is(context.Cause(ctx), errReconnected) {
		cancel(nil) // of no effect, the context has ended
		if err == nil {
			_ = response.Body.Close()
		}
		return nil, errReconnected
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response.Body = &guardedBody{ReadCloser: response.Body, left: t.maxAnswer, done: cancel}
	return response, nil
}

type guardedBody struct {
	io.ReadCloser
	left int64
	done context.CancelCauseFunc
}

// Read implements io.Reader.
func (b *guardedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// Close implements io.Closer.
func (b *guardedBody) Close() error {
	err := b.ReadCloser.Close()
	b.done(nil)
	return err
}
