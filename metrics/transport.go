package metrics

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// newHTTPClient returns a client that follows no redirect, so that what is
// asked can send it nowhere else, and reads at most limit bytes of an answer.
func newHTTPClient(transport http.RoundTripper, limit int64) *http.Client {
	return &http.Client{
		Transport:     limited{transport, limit},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// prometheusTransport goes where the operator says.
func prometheusTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     idleTimeout,
	}
}

// replicaTransport goes where Consul's catalog says, straight, and never to a
// link-local address: there clouds keep what machines must not tell others. It
// keeps no connection: a replica that does one thing at a time would wait on it
// for the next question, and serve nobody.
func replicaTransport() *http.Transport {
	return &http.Transport{
		DialContext:       (&net.Dialer{Timeout: dialTimeout, Control: refuseLinkLocal}).DialContext,
		DisableKeepAlives: true,
	}
}

// refuseLinkLocal is for net.Dialer.Control, which sees what a name stands for.
func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if to.Addr().Unmap().IsLinkLocalUnicast() {
		return fmt.Errorf("%s is a link-local address, which no replica has", to.Addr())
	}
	return nil
}

// bearer sends a token with each request.
type bearer struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(out)
}

// limited cuts off answers that are too long to be a number.
type limited struct {
	next  http.RoundTripper
	limit int64
}

// errTooLong is an answer that was cut off.
var errTooLong = errors.New("the answer is too long")

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = &limitedBody{response.Body, l.limit}
	return response, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	// One byte more than may come tells an answer that ends from one that goes on.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		return int(b.left), errTooLong
	}
	b.left -= int64(n)
	return n, err
}
