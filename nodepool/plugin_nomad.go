package nodepool

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// nomadNode is what Nomad says of a node, as far as a removal asks.
type nomadNode struct {
	ID                    string
	NodePool              string
	NodeClass             string
	Status                string
	SchedulingEligibility string

	raw map[string]json.RawMessage
}

// nomadAPI reads Nomad.
type nomadAPI struct {
	base   *url.URL
	token  string
	region string
	http   *http.Client
}

func newNomadAPI(c PluginConfig) (*nomadAPI, error) {
	address := c.NomadAddress
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of a Nomad agent: want http://host:port or https://host:port", c.NomadAddress)
	}
	client := c.NomadHTTP
	if client == nil {
		client = http.DefaultClient
	}
	return &nomadAPI{base: base, token: c.NomadToken, region: c.NomadRegion, http: client}, nil
}

// maxNodeBody bounds what is read of one node, in bytes.
const maxNodeBody = 16 << 20

// node returns a node, or nil when Nomad does not know it.
func (n *nomadAPI) node(ctx context.Context, id string) (*nomadNode, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address := n.base.JoinPath("v1", "node", url.PathEscape(id))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask Nomad for node %s: %w", id, err)
	}
	n.sign(req)
	resp, err := n.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Nomad for node %s: %w", id, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxNodeBody))
	if err != nil {
		return nil, fmt.Errorf("read node %s from Nomad: %w", id, err)
	}
	// A proxy between may have a 404 of its own; Nomad's names the node.
	if resp.StatusCode == http.StatusNotFound && bytes.Contains(body, []byte("node not found")) {
		return nil, nil //nolint:nilnil // known to be absent
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask Nomad for node %s: %s: %s", id, resp.Status, bytes.TrimSpace(body[:min(len(body), 200)]))
	}
	node := &nomadNode{}
	if err = errors.Join(json.Unmarshal(body, node), json.Unmarshal(body, &node.raw)); err != nil {
		return nil, fmt.Errorf("read node %s from Nomad: %w", id, err)
	}
	if node.ID != id {
		return nil, fmt.Errorf("ask Nomad for node %s: it answered with node %q", id, node.ID)
	}
	return node, nil
}

// sign makes a request one of this server.
func (n *nomadAPI) sign(req *http.Request) {
	req.Header.Del("X-Nomad-Token")
	if n.token != "" {
		req.Header.Set("X-Nomad-Token", n.token)
	}
	if n.region != "" {
		query := req.URL.Query()
		query.Set("region", n.region)
		req.URL.RawQuery = query.Encode()
	}
}

// nomadView is Nomad as a plugin sees it, on a loopback address. The plugins of
// the Nomad Autoscaler choose the machine that goes themselves, from Nomad's
// nodes; here there are none, and while a node is removed only that one, drained
// and free. So a plugin can remove the chosen node and no other, and never finds
// its pool in a state in which it would not add nodes. It changes nothing in
// Nomad: draining is serve-nomad's business.
type nomadView struct {
	address string
	secret  string // a plugin's token for it: whoever else is on this machine has none
	server  *http.Server
	nomad   http.Handler

	mu      sync.Mutex
	node    *nomadNode // shown; nil: none
	looked  bool       // the plugin has asked for the nodes since it started
	drained bool       // it has asked to drain the one that is shown
}

func newNomadView(nomad *nomadAPI, log hclog.Logger) (*nomadView, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		return nil, fmt.Errorf("listen for the plugin's calls of Nomad: %w", err)
	}
	v := &nomadView{address: "http://" + listener.Addr().String(), secret: rand.Text()}
	v.nomad = &httputil.ReverseProxy{
		Transport: nomad.http.Transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(nomad.base)
			nomad.sign(r.Out)
		},
		ErrorLog: log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Warn}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/nodes", v.list)
	mux.HandleFunc("GET /v1/node/{id}", v.info)
	mux.HandleFunc("GET /v1/node/{id}/allocations", v.allocations)
	mux.HandleFunc("/v1/node/{id}/{change}", v.change)
	mux.HandleFunc("/", v.rest)
	v.server = &http.Server{Handler: v.known(mux), ReadHeaderTimeout: 10 * time.Second}
	go v.server.Serve(listener) //nolint:errcheck // it ends with close, and cannot fail before
	return v, nil
}

func (v *nomadView) close() { v.server.Close() } //nolint:errcheck // there is nothing to lose

// fresh forgets what the plugin before did.
func (v *nomadView) fresh() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.looked, v.drained = false, false
}

// show has a plugin see one node, until hide.
func (v *nomadView) show(node *nomadNode) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.node, v.drained = node, false
}

// hide returns whether the node was chosen: plugins drain what they remove.
func (v *nomadView) hide() (chosen bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.node = nil
	return v.drained
}

// looksAtNodes says whether the plugin has asked for Nomad's nodes.
func (v *nomadView) looksAtNodes() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.looked
}

func (v *nomadView) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Nomad-Token")), []byte(v.secret)) != 1 {
			http.Error(w, "only the plugin that was given this address may use it", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (v *nomadView) list(w http.ResponseWriter, _ *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.looked = true
	nodes := []map[string]json.RawMessage{}
	if v.node != nil {
		nodes = append(nodes, v.node.free())
	}
	answer(w, nodes)
}

func (v *nomadView) info(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.node == nil || v.node.ID != r.PathValue("id") {
		http.Error(w, "node not found", http.StatusNotFound)
		return
	}
	answer(w, v.node.free())
}

// allocations are none: those of a drained node that go on are meant to.
func (v *nomadView) allocations(w http.ResponseWriter, _ *http.Request) {
	answer(w, []json.RawMessage{})
}

// change takes note of what a plugin does to the node, and does not do it.
func (v *nomadView) change(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.Method == http.MethodGet || v.node == nil || v.node.ID != r.PathValue("id") {
		http.Error(w, "node not found", http.StatusNotFound)
		return
	}
	if r.PathValue("change") == "drain" {
		v.drained = true
	}
	answer(w, map[string]any{"EvalIDs": nil, "EvalCreateIndex": 0, "NodeModifyIndex": 1})
}

func (v *nomadView) rest(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		http.Error(w, "a plugin that serve-nomad runs changes nothing in Nomad", http.StatusForbidden)
		return
	}
	v.nomad.ServeHTTP(w, r)
}

// free is a node as it is when nothing stands against removing it. A list of
// nodes has the same fields under the same names.
func (n *nomadNode) free() map[string]json.RawMessage {
	shown := maps.Clone(n.raw)
	shown["Status"] = json.RawMessage(`"ready"`)
	shown["SchedulingEligibility"] = json.RawMessage(`"eligible"`)
	shown["Drain"] = json.RawMessage(`false`)
	shown["DrainStrategy"] = json.RawMessage(`null`)
	return shown
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Nomad-Index", "1")
	w.Header().Set("X-Nomad-LastContact", "0")
	w.Header().Set("X-Nomad-KnownLeader", "true")
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the plugin has gone
}
