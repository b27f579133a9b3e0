package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Bounds on a question to a replica.
const (
	askTimeout  = time.Second
	dialTimeout = askTimeout / 2 // to connect, so that who takes none is told from who is slow
	maxBody     = 4 << 10        // bytes read of an answer, as Consul does
	maxHeader   = 64 << 10       // bytes of an answer's header
)

// Asker asks a replica once; nil: it can serve.
type Asker func(ctx context.Context, address string, c Check) error

// NewAsker returns what asks over the network, by the protocol of the check.
func NewAsker() Asker {
	plain, h2 := newPlainAsker(), newH2Asker()
	return func(ctx context.Context, address string, c Check) error {
		if c.Protocol != "" {
			return h2(ctx, address, c)
		}
		return plain(ctx, address, c.Path)
	}
}

// newPlainAsker returns what asks a replica over HTTP/1.1, as Consul's check does: on a
// connection of its own, which it does not keep, because a server that does
// one thing at a time would wait for the next request on it.
func newPlainAsker() func(ctx context.Context, address, path string) error {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, address, path string) error {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			return err
		}
		r.Header.Set("User-Agent", "serve-nomad proxy health check")
		res, err := client.Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if !isServing(res.StatusCode) {
			return fmt.Errorf("it answers with status %d", res.StatusCode)
		}
		// To its end, or to where it is long: an answer that breaks off, or
		// takes too long, is none.
		if _, err := io.CopyN(io.Discard, res.Body, maxBody); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	}
}

// IsLate says of an asker's error whether the replica took a connection and did not answer in time.
func IsLate(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}
