package raftnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	identityPath  = "/internal/v1/identity"
	joinPath      = "/internal/v1/join"
	maxPeerBytes  = 64 << 10        // of what servers ask and answer on these paths
	peerTimeout   = 5 * time.Second // for an answer on these paths
	joinTimeout   = 15 * time.Second
	drainRequests = 2 * time.Second // for requests under way at Shutdown
)

// identity is what a server says of itself to another.
type identity struct {
	ID              string `json:"id"`
	Name            string `json:"name"`
	Address         string `json:"address"`
	HasState        bool   `json:"has_state"` // holds a cluster's log
	ClusterID       string `json:"cluster_id,omitempty"`
	BootstrapExpect int    `json:"bootstrap_expect"`
	LeaderID        string `json:"leader_id,omitempty"`
	LeaderAddress   string `json:"leader_address,omitempty"`
}

// joinRequest asks the leader to take a server into the cluster.
type joinRequest struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// SetHandler sets what answers the requests that other servers forward to this
// one. Until it is set they are answered 503.
func (n *Node) SetHandler(h http.Handler) { n.outside.handler.Store(&h) }

// serve answers other servers until the node stops. The handlers' contexts end
// with ctx.
func (n *Node) serve(ctx context.Context) {
	o := n.outside
	if n.cfg.InternalHandler != nil {
		n.SetHandler(n.cfg.InternalHandler)
	}
	paths := http.NewServeMux()
	paths.HandleFunc("GET "+identityPath, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, n.identity())
	})
	paths.HandleFunc("POST "+joinPath, n.handleJoin)
	paths.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if h := o.handler.Load(); h != nil {
			(*h).ServeHTTP(w, r)
			return
		}
		answer(w, http.StatusServiceUnavailable, problem{"this server is starting", "unavailable"})
	})
	o.server = &http.Server{
		Handler:           paths,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          n.logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	n.loops.Go(func() {
		err := o.server.Serve(o.mux.listenerFor(protocolHTTP))
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			n.logger.Error("serve peers", "error", err)
		}
	})
}

func (n *Node) identity() identity {
	leader, leaderAddress := n.Leader()
	return identity{
		ID: n.id, Name: n.Name(), Address: n.cfg.Advertise,
		HasState: n.hasState(), ClusterID: n.State().ClusterID, BootstrapExpect: n.cfg.BootstrapExpect,
		LeaderID: leader, LeaderAddress: leaderAddress,
	}
}

func (n *Node) handleJoin(w http.ResponseWriter, r *http.Request) {
	var in joinRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPeerBytes)).Decode(&in); err != nil {
		answer(w, http.StatusBadRequest, problem{err.Error(), "invalid"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), joinTimeout)
	defer cancel()
	switch err := n.admit(ctx, in); {
	case err == nil:
		answer(w, http.StatusOK, n.identity())
	case errors.Is(err, ErrNotLeader):
		answer(w, http.StatusServiceUnavailable, problem{err.Error(), "no_leader"})
	default:
		n.logger.Warn("refused join", "id", in.ID, "address", in.Address, "error", err)
		answer(w, http.StatusConflict, problem{err.Error(), "conflict"})
	}
}

// problem is the body of an answer of 400 and above, in the control API's shape.
type problem struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a peer that is gone asks again
}

// askIdentity asks the server at address who it is.
func (n *Node) askIdentity(ctx context.Context, address string) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	return n.askPeer(ctx, http.MethodGet, address, identityPath, nil)
}

// askJoin asks the leader at address to take this server in.
func (n *Node) askJoin(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	body, err := json.Marshal(joinRequest{ID: n.id, Address: n.cfg.Advertise})
	if err != nil {
		return err
	}
	_, err = n.askPeer(ctx, http.MethodPost, address, joinPath, body)
	return err
}

func (n *Node) askPeer(ctx context.Context, method, address, path string, body []byte) (identity, error) {
	target := url.URL{Scheme: "http", Host: address, Path: path}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return identity{}, err
	}
	resp, err := n.outside.toPeers.RoundTrip(req)
	if err != nil {
		return identity{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerBytes))
	if err != nil {
		return identity{}, err
	}
	if resp.StatusCode != http.StatusOK {
		var p problem
		if json.Unmarshal(data, &p) != nil || p.Error == "" {
			p.Error = resp.Status
		}
		return identity{}, fmt.Errorf("%s answers: %s", address, p.Error)
	}
	var out identity
	if json.Unmarshal(data, &out) != nil || out.ID == "" {
		return identity{}, fmt.Errorf("%s does not answer as a serve-nomad server", address)
	}
	return out, nil
}

// LeaderTransport sends requests to the leader's port, whatever the host of
// their URL, where the leader's own handler answers them. It returns an error
// that is ErrNoLeader when nothing was sent: no leader is known, or it cannot
// be reached. The leader's own requests come back to itself.
func (n *Node) LeaderTransport() http.RoundTripper { return leaderTransport{n} }

// LeaderClient returns a client over LeaderTransport. It follows no redirects
// and sets no time limit: the request's context does.
func (n *Node) LeaderClient() *http.Client {
	return &http.Client{
		Transport:     n.LeaderTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type leaderTransport struct{ node *Node }

func (t leaderTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	_, address := t.node.Leader()
	if address == "" {
		if req.Body != nil {
			_ = req.Body.Close() // as RoundTrip must
		}
		return nil, ErrNoLeader
	}
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "http", address
	resp, err := t.node.outside.toPeers.RoundTrip(out)
	if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
		return nil, fmt.Errorf("%w: its last one, at %s, cannot be reached: %w", ErrNoLeader, address, err)
	}
	return resp, err
}
