package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// access is what a route lets its caller do.
type access string

const (
	read  access = "read"
	write access = "write"
)

// route is one row of the API's table.
type route struct {
	method string
	path   string // {name} takes one segment
	needs  access
	local  bool     // each server answers for itself, leader or not
	query  []string // the parameters that it takes
	handle func(*call) error
}

// routeTable is the whole API.
func routeTable() []route {
	blocking := []string{"index", "wait", "stale"}
	with := func(names ...string) []string { return append(names, blocking...) }
	return []route{
		{"GET", "/", read, true, nil, landing},

		{"GET", "/v1/applications", read, false, blocking, listApplications},
		{"PUT", "/v1/applications", write, false, nil, deploy},
		{"GET", "/v1/applications/{app}", read, false, blocking, readApplication},
		{"DELETE", "/v1/applications/{app}", write, false, []string{"request_id", "message", "by"}, deleteApplication},
		{"GET", "/v1/applications/{app}/spec", read, false, with("version"), readSpec},
		{"GET", "/v1/applications/{app}/history", read, false, blocking, readHistory},
		{"POST", "/v1/applications/{app}/rollback", write, false, nil, rollback},
		{"POST", "/v1/applications/{app}/rollout/{action}", write, false, nil, steer},
		{"POST", "/v1/applications/{app}/deployments/{deployment}/scale", write, false, nil, scale},
		{"GET", "/v1/applications/{app}/deployments/{deployment}/logs", read, false, []string{"replica", "stream", "follow", "tail"}, readLogs},
		{"GET", "/v1/applications/{app}/deployments/{deployment}/autoscale", read, false, nil, explain},
		{"POST", "/v1/plan", read, false, nil, plan},

		{"POST", loadsPath, write, false, nil, takeLoads},
		{"GET", "/v1/autoscale/proxies", read, false, nil, listProxies},

		{"GET", "/v1/worker-groups", read, false, blocking, listWorkerGroups},
		{"GET", "/v1/worker-groups/{group}", read, false, blocking, readWorkerGroup},
		{"DELETE", "/v1/worker-groups/{group}", write, false, []string{"request_id", "message", "by"}, deleteWorkerGroup},
		{"GET", "/v1/nodes", read, false, nil, listNodes},
		{"GET", "/v1/nodes/{node}", read, false, nil, readNode},
		{"GET", "/v1/pending", read, false, nil, listPending},

		{"GET", "/v1/events", read, false, with("application"), listEvents},
		{"GET", "/v1/event/stream", read, false, []string{"index", "application", "stale"}, streamEvents},

		{"GET", "/v1/metrics", read, true, []string{"format"}, readMetrics},
		{"GET", "/v1/agent/self", read, true, nil, readSelf},
		{"GET", "/v1/agent/health", read, true, nil, readHealth},
		{"GET", "/v1/status/leader", read, true, nil, readLeader},
		{"GET", "/v1/status/peers", read, true, nil, listPeers},
	}
}

// maxBody is how large a body the route takes, in bytes.
func (r *route) maxBody() int64 {
	if r.path == loadsPath {
		return maxReport
	}
	return maxBody
}

// match finds the row for a request. HEAD is a GET whose body net/http drops.
func match(table []route, method, path string) (*route, map[string]string, error) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var allow []string
	for i := range table {
		params, ok := matchPath(table[i].path, path)
		if !ok {
			continue
		}
		if table[i].method == method {
			return &table[i], params, nil
		}
		allow = append(allow, table[i].method)
	}
	if allow == nil {
		return nil, nil, fail(CodeNotFound, "there is nothing at %q: the control API's paths begin with /v1/", path)
	}
	if slices.Contains(allow, http.MethodGet) {
		allow = append(allow, http.MethodHead)
	}
	refused := fail(CodeMethodNotAllowed, "%s is not for %s; it takes %s", method, path, strings.Join(allow, ", "))
	refused.allow = strings.Join(allow, ", ")
	return nil, nil, refused
}

func matchPath(pattern, path string) (map[string]string, bool) {
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, false
	}
	params := map[string]string{}
	for i, segment := range want {
		if name, ok := strings.CutPrefix(segment, "{"); ok && have[i] != "" {
			params[strings.TrimSuffix(name, "}")] = have[i]
		} else if segment != have[i] {
			return nil, false
		}
	}
	return params, true
}

// call is one request on its way through its handler.
type call struct {
	server *Server
	w      http.ResponseWriter
	r      *http.Request
	params map[string]string
	query  url.Values
	stale  bool
}

func (c *call) cluster() Cluster { return c.server.cfg.Cluster }

// checkQuery refuses a parameter that the route does not know, which is a
// misspelt one more often than not.
func (c *call) checkQuery(found *route) error {
	for name, values := range c.query {
		switch {
		case !slices.Contains(found.query, name):
			known := "it takes none"
			if len(found.query) > 0 {
				known = "it takes " + strings.Join(found.query, ", ")
			}
			return fail(CodeInvalid, "there is no parameter %q here: %s", name, known)
		case len(values) > 1:
			return fail(CodeInvalid, "parameter %q comes %d times", name, len(values))
		}
	}
	return nil
}

// flag says whether ?name or ?name=true is there.
func (c *call) flag(name string) bool {
	return c.query.Has(name) && c.query.Get(name) != "false" && c.query.Get(name) != "0"
}

// answer sends body as JSON.
func (c *call) answer(body any) error {
	writeJSON(c.w, http.StatusOK, body)
	return nil
}

func baseContext(ctx context.Context) func(net.Listener) context.Context {
	return func(net.Listener) context.Context { return ctx }
}

// landing tells a person with a browser or curl where they are.
func landing(c *call) error {
	info := c.server.info()
	role := "a follower; requests are passed on to the leader"
	if info.Leader {
		role = "the leader"
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := fmt.Fprintf(c.w, `serve-nomad %s: the control API
This server is %s (%s), %s.

Applications    GET /v1/applications
Worker groups   GET /v1/worker-groups
Nodes           GET /v1/nodes
Events          GET /v1/events
Servers         GET /v1/status/peers
This server     GET /v1/agent/self
Metrics         GET /v1/metrics

Nomad           %s
Consul          %s
`, info.Version, info.Name, info.ID, role, info.Nomad, info.Consul)
	if err == nil && info.Proxy != "" {
		_, err = fmt.Fprintf(c.w, "Proxy           %s\n", info.Proxy)
	}
	return err
}
