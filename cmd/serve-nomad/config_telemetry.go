package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/telemetry"
)

// accessLogConfig is the proxy's log of requests.
type accessLogConfig struct {
	Enabled bool     `hcl:"enabled,optional"`
	Output  string   `hcl:"output,optional"`  // stdout, stderr or a file
	Format  string   `hcl:"format,optional"`  // json or combined
	Sample  float64  `hcl:"sample,optional"`  // part of the requests that have a line; what failed or was slow always has one
	Slow    string   `hcl:"slow,optional"`    // from when on a request is slow; 0s: none is
	Query   bool     `hcl:"query,optional"`   // lines have the query string, which may hold secrets
	Headers []string `hcl:"headers,optional"` // of the request that lines have

	slow time.Duration
}

// tracingConfig is the spans that the proxy sends. What is absent comes from
// OpenTelemetry's environment variables.
type tracingConfig struct {
	Enabled  bool     `hcl:"enabled,optional"`
	Endpoint string   `hcl:"endpoint,optional"` // base URL of a collector's OTLP over HTTP
	Sample   *float64 `hcl:"sample,optional"`   // part of the traces that begin here whose spans are kept
}

// completeTelemetry derives what follows from other fields and finds every
// fault in what concerns those who watch the proxy.
func (c *proxyConfig) completeTelemetry() error {
	var faults []error
	if c.AdminAddress != "" && !hostPort(c.AdminAddress) {
		faults = append(faults, fmt.Errorf("proxy.admin_address = %q: want host:port, such as 127.0.0.1:8003, or none", c.AdminAddress))
	}
	return errors.Join(append(faults, c.AccessLog.complete(), c.Tracing.complete())...)
}

func (c *accessLogConfig) complete() error {
	var faults []error
	if c.Output == "" {
		faults = append(faults, errors.New("proxy.access_log.output is empty: want stdout, stderr or the path of a file"))
	}
	if f := telemetry.Format(c.Format); f != telemetry.JSON && f != telemetry.Combined {
		faults = append(faults, fmt.Errorf("proxy.access_log.format = %q: want %s or %s", c.Format, telemetry.JSON, telemetry.Combined))
	}
	if !ratio(c.Sample) {
		faults = append(faults, fmt.Errorf("proxy.access_log.sample = %g: want a number from 0 to 1, such as 0.01", c.Sample))
	}
	slow, err := time.ParseDuration(c.Slow)
	if err != nil || slow < 0 {
		faults = append(faults, fmt.Errorf("proxy.access_log.slow = %q: want a duration, such as 1s, or 0s for none", c.Slow))
	}
	c.slow = slow
	if n := len(c.Headers); n > telemetry.MaxHeaders {
		faults = append(faults, fmt.Errorf("proxy.access_log.headers has %d headers: at most %d are logged", n, telemetry.MaxHeaders))
	}
	for _, key := range c.Headers {
		if key == "" || strings.ContainsAny(key, " \t\r\n:") {
			faults = append(faults, fmt.Errorf("proxy.access_log.headers: %q is not the name of a header", key))
		}
		switch http.CanonicalHeaderKey(key) {
		case "Authorization", "Proxy-Authorization", "Cookie":
			faults = append(faults, fmt.Errorf("proxy.access_log.headers: %s holds secrets, which do not belong in a log", key))
		}
	}
	return errors.Join(faults...)
}

func (c *tracingConfig) complete() error {
	var faults []error
	if c.Endpoint != "" && !baseURL(c.Endpoint) {
		faults = append(faults, fmt.Errorf("proxy.tracing.endpoint = %q: want a base URL, such as http://127.0.0.1:4318", c.Endpoint))
	}
	if c.Sample != nil && !ratio(*c.Sample) {
		faults = append(faults, fmt.Errorf("proxy.tracing.sample = %g: want a number from 0 to 1, such as 0.01", *c.Sample))
	}
	if _, err := telemetry.SamplerFrom(os.Getenv); c.Enabled && c.Sample == nil && err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func ratio(n float64) bool { return n >= 0 && n <= 1 }
