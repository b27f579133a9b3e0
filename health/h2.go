package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/h2"
	"github.com/serve-nomad/serve-nomad/routes"
	"github.com/serve-nomad/serve-nomad/upstream"
)

// newH2Asker returns what asks a replica over HTTP/2, on a connection of its own.
func newH2Asker() Asker {
	d := upstream.NewDialer(dialTimeout, askTimeout, maxHeader)
	return func(ctx context.Context, address string, c Check) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		cc, err := d.DialH2(ctx, address, time.Time{})
		if err != nil {
			return err
		}
		defer func() { _ = cc.Close() }() // as is one that does not close
		switch {
		case c.Protocol == routes.ProtocolGRPC:
			return askGRPC(ctx, cc.Conn, address, c.Service)
		case c.Path == "":
			return nil
		}
		return askPath(ctx, cc.Conn, address, c.Path)
	}
}

func askPath(ctx context.Context, cc *h2.Conn, address, path string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	res, _, err := answerOf(cc, r) //nolint:bodyclose // it has been read and closed
	if err == nil && !isServing(res.StatusCode) {
		return fmt.Errorf("it answers with status %d", res.StatusCode)
	}
	return err
}

// askGRPC asks gRPC's health service (https://grpc.io/docs/guides/health-checking/).
func askGRPC(ctx context.Context, cc *h2.Conn, address, service string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+CheckPath, bytes.NewReader(checkRequest(service)))
	if err != nil {
		return err
	}
	r.Header["Content-Type"], r.Header["Te"] = []string{"application/grpc"}, []string{"trailers"}
	r.Header["Grpc-Timeout"] = []string{strconv.FormatInt(askTimeout.Microseconds(), 10) + "u"}
	res, body, err := answerOf(cc, r) //nolint:bodyclose // it has been read and closed
	if err != nil {
		return err
	}
	status := res.Trailer.Get("Grpc-Status")
	if status == "" {
		status = res.Header.Get("Grpc-Status")
	}
	switch {
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("its health service answers with HTTP status %d", res.StatusCode)
	case status != "0":
		return fmt.Errorf("its health service answers with gRPC status %q: %s", status, res.Trailer.Get("Grpc-Message")+res.Header.Get("Grpc-Message"))
	case !saysServing(body):
		return errors.New("its health service does not say SERVING")
	}
	return nil
}

var errNoStreams = errors.New("it takes no requests")

// answerOf returns a response with its body, which is to be short.
func answerOf(cc *h2.Conn, r *http.Request) (*http.Response, []byte, error) {
	r.Header.Set("User-Agent", "serve-nomad proxy health check")
	if !cc.Reserve() {
		return nil, nil, errNoStreams
	}
	res, err := cc.RoundTrip(r, nil)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	// To its end, or to where it is long: an answer that breaks off, or takes
	// too long, is none.
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	return res, body, err
}
