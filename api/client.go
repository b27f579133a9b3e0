package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
)

// DefaultAddress is where a server's API is unless it was told otherwise, and
// AddressEnv is the environment variable that says so.
const (
	DefaultAddress = "http://127.0.0.1:8265"
	AddressEnv     = "SERVE_NOMAD_ADDR"
)

// tokenHeader carries the caller's token.
const tokenHeader = "X-Serve-Nomad-Token"

// ClientConfig is what a Client is made of.
type ClientConfig struct {
	Address    string       // base URL; "": DefaultAddress; without a scheme: http
	Token      string       // sent with each request, if there is one
	HTTPClient *http.Client // nil: one of the Client's own
	RetryFor   time.Duration
}

// defaultRetryFor is how long a request is tried again while the servers elect
// a leader.
const defaultRetryFor = 15 * time.Second

// Client speaks the control API of one server, which passes on to the leader
// what it cannot answer itself.
type Client struct {
	cfg  ClientConfig
	base *url.URL
}

// NewClient returns a Client. Nothing is sent yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Address == "" {
		cfg.Address = DefaultAddress
	}
	if !strings.Contains(cfg.Address, "://") {
		cfg.Address = "http://" + cfg.Address
	}
	base, err := url.Parse(cfg.Address)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("address %q is not a URL such as %s: set -address or %s", cfg.Address, DefaultAddress, AddressEnv)
	}
	if cfg.HTTPClient == nil {
		transport := &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			IdleConnTimeout:     time.Minute,
		}
		cfg.HTTPClient = &http.Client{Transport: transport}
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = defaultRetryFor
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return &Client{cfg: cfg, base: base}, nil
}

// Address returns the base URL of the server.
func (c *Client) Address() string { return c.base.String() }

// Error is an answer of 400 and above.
type Error struct {
	StatusCode int
	Code       Code
	Message    string
	Faults     []appspec.Fault
	RequestID  string
}

func (e *Error) Error() string { return e.Message }

// Is says whether err is an Error of that code.
func (c Code) Is(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == c
}

// ConnectError is a server that could not be reached.
type ConnectError struct {
	Address string
	Err     error
}

func (e *ConnectError) Error() string {
	reason := e.Err
	if wrapped, ok := errors.AsType[*url.Error](e.Err); ok {
		reason = wrapped.Err // without the method and the URL once more
	}
	return fmt.Sprintf("no answer from the serve-nomad server at %s: %s; set -address or %s if it is elsewhere", e.Address, reason, AddressEnv)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// request is one request, ready to be sent more than once.
type request struct {
	method string
	path   []string // segments, unescaped
	query  url.Values
	body   []byte
	write  bool // has a request id: safe to send again whatever came of it
	wait   time.Duration
}

// answerLimit is how long an answer may take, beyond what it was asked to
// wait. Streams have no such limit.
const answerLimit = time.Minute

// do sends req until it is answered, and reads the answer into out.
func (c *Client) do(ctx context.Context, req request, out any) (index uint64, err error) {
	limit := answerLimit + req.wait + req.wait/jitterPart
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	index, err = c.read(limited, req, out)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = &ConnectError{c.Address(), fmt.Errorf("nothing came within %s", limit)}
	}
	return index, err
}

func (c *Client) read(ctx context.Context, req request, out any) (index uint64, err error) {
	resp, err := c.send(ctx, req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, &ConnectError{c.Address(), err}
	}
	index, _ = strconv.ParseUint(resp.Header.Get(IndexHeader), 10, 64) // absent: not a blocking query
	if err := json.Unmarshal(data, out); err != nil {
		return index, &Error{StatusCode: resp.StatusCode, Message: c.strange(resp, data)}
	}
	return index, nil
}

// send returns an answer below 400. Trouble that an election brings is waited
// out; a server that is not there at all is not.
func (c *Client) send(ctx context.Context, req request) (*http.Response, error) {
	deadline := time.Now().Add(c.cfg.RetryFor)
	pause := 50 * time.Millisecond
	began := false
	for {
		resp, err := c.once(ctx, req)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil || !retryable(err, req.write, began) || time.Now().Add(pause).After(deadline) {
			return nil, err
		}
		began = true
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		case <-timer.C:
		}
		pause = min(2*pause, time.Second)
	}
}

func (c *Client) once(ctx context.Context, req request) (*http.Response, error) {
	u := c.base.JoinPath(escaped(req.path)...)
	u.RawQuery = req.query.Encode()
	var body io.Reader
	if req.body != nil {
		body = bytes.NewReader(req.body)
	}
	r, err := http.NewRequestWithContext(ctx, req.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if req.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Token != "" {
		r.Header.Set(tokenHeader, c.cfg.Token)
	}
	resp, err := c.cfg.HTTPClient.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &ConnectError{c.Address(), err}
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	return nil, c.failure(resp)
}

// failure reads an answer of 400 and above.
func (c *Client) failure(resp *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return &ConnectError{c.Address(), err}
	}
	var body ErrorResponse
	if err := json.Unmarshal(data, &body); err != nil || body.Code == "" {
		return &Error{StatusCode: resp.StatusCode, Message: c.strange(resp, data)}
	}
	return &Error{
		StatusCode: resp.StatusCode, Code: body.Code, Message: body.Error,
		Faults: body.Faults, RequestID: body.RequestID,
	}
}

// strange says that an answer is not serve-nomad's.
func (c *Client) strange(resp *http.Response, data []byte) string {
	const some = 80
	text := strings.Join(strings.Fields(string(data)), " ")
	return fmt.Sprintf("%s answered %s with something that is not serve-nomad's (%.*q): set -address or %s if the server is elsewhere",
		c.Address(), resp.Status, some, text, AddressEnv)
}

// retryable says whether sending again can help and can do no harm. A refused
// connection is worth it only once the server has been seen.
func retryable(err error, write, seen bool) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code == CodeNoLeader || (write && e.Code == CodeUnknownOutcome)
	}
	lost := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	return lost || (seen && errors.Is(err, syscall.ECONNREFUSED))
}

func escaped(segments []string) []string {
	list := make([]string, len(segments))
	for i, s := range segments {
		list[i] = url.PathEscape(s)
	}
	return list
}
