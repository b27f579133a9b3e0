// Package nomadjobs is the door to Nomad: it sees the jobs that serve-nomad
// made, their replicas and the nodes, registers, scales and stops such jobs,
// closes, drains and purges nodes, writes node pools and the user_configs that
// replicas take while they run, and reads replicas' logs.
// No other package calls Nomad.
package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// callTimeout bounds every call but the streams. A list of 10,000 allocations
// takes a busy Nomad server a few seconds.
const callTimeout = 30 * time.Second

// Errors that callers tell apart. Each comes wrapped with what was tried.
var (
	ErrConflict    = errors.New("nomad: the job changed since it was seen")
	ErrNotFound    = errors.New("nomad: not found")
	ErrUnreachable = errors.New("nomad: no answer")
	ErrForbidden   = errors.New("nomad: the token does not allow it")
)

// Config says which Nomad to talk to. What is empty comes from Nomad's own
// variables (NOMAD_ADDR, NOMAD_TOKEN, NOMAD_REGION, NOMAD_NAMESPACE, and
// NOMAD_CACERT and its like for TLS), then from Nomad's defaults.
type Config struct {
	Address   string // "http://127.0.0.1:4646"; a bare host:port is http
	Token     string
	Region    string
	Namespace string
}

// Client talks to one Nomad cluster. It is safe for concurrent use.
type Client struct {
	nomad   *api.Client
	address string
	log     hclog.Logger

	jobs     cache[seenJob] // not whole: those would be large in the thousands
	nodes    cache[seenNode]
	policies cache[policy]
	configs  cache[reconcile.Config]
	pools    atomic.Pointer[knownPools] // of the last look; nil: there was none
}

// New returns a Client. It does not call Nomad yet.
func New(cfg Config, logger hclog.Logger) (*Client, error) {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	conf := api.DefaultConfig()
	for field, value := range map[*string]string{
		&conf.Address: cfg.Address, &conf.SecretID: cfg.Token, &conf.Region: cfg.Region, &conf.Namespace: cfg.Namespace,
	} {
		if value != "" {
			*field = value
		}
	}
	if !strings.Contains(conf.Address, "://") {
		conf.Address = "http://" + conf.Address
	}
	address := conf.Address // NewClient rewrites that of a unix socket
	nomad, err := api.NewClient(conf)
	if err != nil {
		return nil, fmt.Errorf("set up the Nomad client for %s: %w", address, err)
	}
	return &Client{nomad: nomad, address: address, log: logger.Named("nomad")}, nil
}

// Address returns the address of the Nomad agent that is called.
func (c *Client) Address() string { return c.address }

// fault says what was tried and why it did not work, in a form that tells a
// person what to set and a caller which of our errors it is.
func (c *Client) fault(what string, err error) error {
	if err == nil {
		return nil
	}
	var answer api.UnexpectedResponseError
	if !errors.As(err, &answer) || !answer.HasStatusCode() {
		if errors.Is(err, context.Canceled) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if call, ok := errors.AsType[*url.Error](err); ok {
			err = call.Err // the call and its address are named already
		}
		err = fmt.Errorf("%w from %s (set NOMAD_ADDR, or the server's nomad address, to a Nomad agent): %w", ErrUnreachable, c.address, err)
		if call, ok := errors.AsType[*net.OpError](err); ok && call.Op == "dial" {
			return err // whatever was asked: of many calls at once it would be another one each time
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	text := oneLine(answer.Body())
	switch {
	case answer.StatusCode() == http.StatusNotFound, text == "node not found":
		return fmt.Errorf("%s: %w: %s", what, ErrNotFound, text)
	case answer.StatusCode() == http.StatusForbidden:
		return fmt.Errorf("%s: %w: %s (set NOMAD_TOKEN, or the server's nomad token, to one that does)", what, ErrForbidden, text)
	case strings.Contains(text, api.RegisterEnforceIndexErrPrefix):
		return fmt.Errorf("%s: %w: %s", what, ErrConflict, text)
	case strings.Contains(text, "No cluster leader"):
		return fmt.Errorf("%s: %w: the Nomad servers behind %s have no leader", what, ErrUnreachable, c.address)
	default:
		return fmt.Errorf("%s: nomad at %s: %s", what, c.address, text)
	}
}

// oneLine takes the line breaks and list headings out of Nomad's answers.
func oneLine(s string) string {
	for _, noise := range []string{"1 error occurred:", "\t* "} {
		s = strings.ReplaceAll(s, noise, " ")
	}
	return strings.Join(strings.Fields(s), " ")
}

// query returns the options of one read, and the end of its time.
func query(ctx context.Context) (*api.QueryOptions, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	return (&api.QueryOptions{}).WithContext(ctx), cancel
}

// write returns the options of one write, and the end of its time.
func write(ctx context.Context) (*api.WriteOptions, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	return (&api.WriteOptions{}).WithContext(ctx), cancel
}
