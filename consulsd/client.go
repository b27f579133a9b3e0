// Package consulsd is the door to Consul, and its only caller: routes are
// written to Consul KV, and Watcher reads back the routing table and the
// replicas of every service that it names.
package consulsd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// ErrConflict says that an entry is no longer as it was when it was read.
var ErrConflict = errors.New("the entry in Consul has changed since it was read")

// Config says which Consul to talk to. What is empty comes from Consul's own
// environment variables (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN,
// CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_SSL, CONSUL_CACERT and so on), and last
// from Consul's defaults.
type Config struct {
	Address    string // "127.0.0.1:8500", "https://consul.example:8501" or "unix:///run/consul.sock"
	Token      string
	Datacenter string
	Prefix     string // of our keys in Consul KV; "": DefaultPrefix

	// MaxQueries is how many blocking queries a Watcher keeps open at once;
	// 0: DefaultMaxQueries. Each is a connection, and a Consul agent allows
	// 200 of them per client address (limits.http_max_conns_per_client), which
	// everything on this machine shares, the Nomad client included.
	MaxQueries int
}

// The defaults of Config. With DefaultMaxQueries a server and a proxy on one
// machine leave a quarter of an agent's connections to others.
const (
	DefaultPrefix     = "serve-nomad"
	DefaultMaxQueries = 72
)

// Bounds on one call to Consul.
const (
	dialTimeout   = 5 * time.Second
	keepAlive     = 15 * time.Second
	writeTimeout  = 10 * time.Second
	maxErrorShown = 300 // bytes of an error's text
)

// Client talks to one Consul agent. It is safe for use by many goroutines.
type Client struct {
	consul     *api.Client
	log        hclog.Logger
	address    string
	prefix     string // without a slash at its ends
	maxQueries int
}

// New returns a Client. It does not connect: Ping does.
func New(cfg Config, logger hclog.Logger) (*Client, error) {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	log := logger.Named("consul")
	consulConfig := api.DefaultConfigWithLogger(log)
	if cfg.Address != "" {
		consulConfig.Address = cfg.Address
	}
	if cfg.Token != "" {
		consulConfig.Token = cfg.Token
		consulConfig.TokenFile = ""
	}
	if cfg.Datacenter != "" {
		consulConfig.Datacenter = cfg.Datacenter
	}
	maxQueries := cfg.MaxQueries
	if maxQueries <= 0 {
		maxQueries = DefaultMaxQueries
	}
	prefix := strings.Trim(cfg.Prefix, "/")
	if prefix == "" {
		prefix = DefaultPrefix
	}

	address := consulConfig.Address
	transport := newTransport(maxQueries)
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		// Consul's client would put a transport of its own in place of ours.
		consulConfig.Address = "localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
		}
	}
	client, err := api.NewHttpClient(transport, consulConfig.TLSConfig)
	if err != nil {
		return nil, fmt.Errorf("set up TLS for Consul at %s: %w", address, err)
	}
	client.Transport = guardedTransport{client.Transport, maxAnswer}
	consulConfig.HttpClient = client
	consul, err := api.NewClient(consulConfig)
	if err != nil {
		return nil, fmt.Errorf("set up the client for Consul at %s: %w", address, err)
	}
	return &Client{consul: consul, log: log, address: address, prefix: prefix, maxQueries: maxQueries}, nil
}

// Address returns where Consul is expected.
func (c *Client) Address() string { return c.address }

// Ping returns nil when Consul answers and has a leader, and otherwise an
// error that says what to set.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	leader, err := c.consul.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return c.explain(err)
	}
	if leader == "" {
		return fmt.Errorf("the Consul at %s has no leader yet", c.address)
	}
	return nil
}

// newTransport returns a transport that keeps a connection for each blocking
// query, so that a query that ends does not cost a new connection.
func newTransport(maxQueries int) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          0, // bounded per host
		MaxIdleConnsPerHost:   maxQueries + 8,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}

// explain wraps an error of Consul's client so that it says which Consul, and
// what to set where that can help.
func (c *Client) explain(err error) error {
	var status api.StatusError
	if !errors.As(err, &status) {
		if errors.Is(err, context.Canceled) {
			return err
		}
		if call, ok := errors.AsType[*url.Error](err); ok {
			err = call.Err // the URL's parameters differ from call to call
		}
		return fmt.Errorf("the Consul at %s does not answer: %w (is an agent running there? else set consul.address in the configuration, or CONSUL_HTTP_ADDR)", c.address, err)
	}
	said := status.Body
	if len(said) > maxErrorShown {
		said = said[:maxErrorShown] + "..."
	}
	answer := &answerError{code: status.Code, said: said, cause: err}
	switch status.Code {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Errorf("the Consul at %s refuses the token: %w (set CONSUL_HTTP_TOKEN to a token with key_prefix %q write, and service_prefix \"serve-\" and node_prefix \"\" read)",
			c.address, answer, c.prefix+"/")
	case http.StatusTooManyRequests:
		return fmt.Errorf("the Consul at %s has too many connections or requests from here: %w (raise limits.http_max_conns_per_client in the agent's configuration)", c.address, answer)
	default:
		return fmt.Errorf("the Consul at %s answers with a fault: %w", c.address, answer)
	}
}

// answerError is an answer of 400 and above, cut to a readable length.
type answerError struct {
	code  int
	said  string
	cause error
}

// Error implements error.
func (e *answerError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("status %d", e.code)
	}
	return fmt.Sprintf("status %d: %s", e.code, e.said)
}

// Unwrap returns the error of Consul's own client.
func (e *answerError) Unwrap() error { return e.cause }
