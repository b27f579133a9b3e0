// Package replicacall is the door to replicas for what the leader has to tell
// them: that their user_config is another. Requests of users do not come this
// way.
package replicacall

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// HashHeader carries the hash of the config that a replica is to take: the same
// one may come more than once.
const HashHeader = "Serve-Config-Hash"

// Bounds on a call. How long it may take as a whole its context says.
const (
	dialTimeout = 2 * time.Second
	maxAnswer   = 4 << 10 // bytes that are read of it
	maxLine     = 200     // characters that are told of it
)

// Client calls replicas. It is safe for concurrent use.
type Client struct {
	http1 *http.Client
	http2 *http.Client // without TLS, and without a word of HTTP/1.1 before
}

// New returns a Client. It connects to nothing yet.
func New() *Client { return &Client{http1: newHTTPClient(false), http2: newHTTPClient(true)} }

// newHTTPClient returns a client that goes where Consul's catalog says and
// nowhere else: it follows no redirect, knows no proxy, and calls no link-local
// address, where clouds keep what machines must not tell others. It keeps no
// connection: a replica that does one thing at a time would wait on it for the
// next call, and serve nobody.
func newHTTPClient(http2 bool) *http.Client {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout, Control: refuseLinkLocal}).DialContext,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
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

// Reconfigure posts a user_config (JSON) to path of the replica at address
// (host:port), which speaks HTTP/2 or HTTP/1.1, and returns why the replica does
// not take it, "" when it does. An error says that it could not be asked, or
// did not answer, which another try may change.
func (c *Client) Reconfigure(ctx context.Context, http2 bool, address, path, config, hash string) (refused string, err error) {
	target, err := url.Parse("http://" + address + "/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(config))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "serve-nomad")
	request.Header.Set(HashHeader, hash)
	client := c.http1
	if http2 {
		client = c.http2
	}
	response, err := client.Do(request)
	if err != nil {
		return "", reason(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 == 2 {
		return "", nil
	}
	refused = fmt.Sprintf("POST %s was answered with %d", target.Path, response.StatusCode)
	if line := firstLine(response.Body); line != "" {
		refused += ": " + line
	}
	return refused, nil
}

// firstLine returns the first line of an answer that says something, fit to be
// shown.
func firstLine(body io.Reader) string {
	data, _ := io.ReadAll(io.LimitReader(body, maxAnswer)) // what has come is what there is to tell
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := []rune(strings.Map(printable, strings.ToValidUTF8(strings.TrimSpace(lines.Text()), "?")))
		if len(line) > maxLine {
			line = append(line[:maxLine], []rune("...")...)
		}
		if len(line) > 0 {
			return string(line)
		}
	}
	return ""
}

func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

// reason leaves out of an error what the caller knows.
func reason(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return errors.New("it did not answer in time")
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		return call.Err
	}
	return err
}
