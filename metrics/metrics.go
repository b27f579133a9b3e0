// Package metrics is the door to the numbers that deployments scale on beside
// requests, and that rollouts are held to: what a Prometheus query gives, and
// what replicas say of themselves. A number to scale on is from 0 to 1e15, any
// other is finite, or there is an error that says what came instead: nothing is
// decided from garbage.
package metrics

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	prometheus "github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
)

// Config says where the numbers are.
type Config struct {
	PrometheusAddress string // base URL, such as "http://127.0.0.1:9090"; "": there is none
	PrometheusToken   string // sent as a bearer token, if there is one
}

// Client reads numbers. It is safe for use by many goroutines.
type Client struct {
	address    string // of Prometheus, as it may be shown
	prometheus prometheusv1.API
	replicas   *http.Client
	configured *http.Transport // to Prometheus; nil: there is none
}

// ErrNoPrometheus says that a query cannot be asked, because the operator has
// not said where Prometheus is.
var ErrNoPrometheus = errors.New("no prometheus address is configured: set address in the block prometheus of the servers' configuration")

// New returns a Client. It connects to nothing yet.
func New(cfg Config) (*Client, error) {
	c := &Client{replicas: newHTTPClient(replicaTransport(), maxReplicaAnswer)}
	if cfg.PrometheusAddress == "" {
		return c, nil
	}
	base, err := url.Parse(cfg.PrometheusAddress)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("prometheus.address = %q: want a base URL, such as http://127.0.0.1:9090", cfg.PrometheusAddress)
	}
	c.address = base.Redacted()
	c.configured = prometheusTransport()
	var transport http.RoundTripper = c.configured
	if cfg.PrometheusToken != "" {
		transport = bearer{transport, cfg.PrometheusToken}
	}
	client, err := prometheus.NewClient(prometheus.Config{
		Address: cfg.PrometheusAddress, Client: newHTTPClient(transport, maxPrometheusAnswer),
	})
	if err != nil {
		return nil, fmt.Errorf("prometheus.address = %q: %w", cfg.PrometheusAddress, err)
	}
	c.prometheus = prometheusv1.NewAPI(client)
	return c, nil
}

// largest is beyond what anybody measures. A larger number is a fault of the
// source.
const largest = 1e15

// finite returns value, or why it is none.
func finite(value float64) (float64, error) {
	switch {
	case math.IsNaN(value):
		return 0, errors.New("the value is not a number (NaN)")
	case math.IsInf(value, 0):
		return 0, errors.New("the value is infinite, or too large")
	default:
		return value, nil
	}
}

// usable returns value, or why no deployment may be sized by it.
func usable(value float64) (float64, error) {
	if _, err := finite(value); err != nil {
		return 0, err
	}
	switch {
	case value < 0:
		return 0, fmt.Errorf("the value is %g, below 0", value)
	case value > largest:
		return 0, fmt.Errorf("the value is %g, which nothing can be sized by: at most %g is taken", value, largest)
	default:
		return value, nil
	}
}

// Bounds on a call. How long it may take as a whole its context says.
const (
	dialTimeout         = 5 * time.Second
	idleTimeout         = 30 * time.Second
	maxPrometheusAnswer = 1 << 20  // bytes; one number is wanted
	maxReplicaAnswer    = 64 << 10 // bytes
)

// Close closes the connections that are not in use.
func (c *Client) Close() {
	if c.configured != nil {
		c.configured.CloseIdleConnections()
	}
}
