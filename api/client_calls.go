package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/serve-nomad/serve-nomad/appspec"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Query says how a read is answered. The zero Query is answered at once, by
// the leader.
type Query struct {
	Index uint64        // of the answer that the caller has; 0: do not wait
	Wait  time.Duration // how long to wait for another one; 0: 5 minutes
	Stale bool          // from what the server knows itself, leader or not

	application string
}

func (q Query) values() url.Values {
	v := url.Values{}
	if q.Index != 0 {
		v.Set("index", strconv.FormatUint(q.Index, 10))
	}
	if q.Wait != 0 {
		v.Set("wait", q.Wait.String())
	}
	if q.Stale {
		v.Set("stale", "true")
	}
	if q.application != "" {
		v.Set("application", q.application)
	}
	return v
}

// Applications says how all applications are. The index is for Query.Index.
func (c *Client) Applications(ctx context.Context, q Query) (list []reconcile.ApplicationStatus, index uint64, err error) {
	index, err = c.blocking(ctx, &list, q, "v1", "applications")
	return list, index, err
}

// Application says how one application is.
func (c *Client) Application(ctx context.Context, name string, q Query) (status reconcile.ApplicationStatus, index uint64, err error) {
	index, err = c.blocking(ctx, &status, q, "v1", "applications", name)
	return status, index, err
}

// Spec returns the spec of a version of an application; version 0 is the
// newest.
func (c *Client) Spec(ctx context.Context, name string, version int) (*appspec.Application, error) {
	query := url.Values{}
	if version != 0 {
		query.Set("version", strconv.Itoa(version))
	}
	spec := &appspec.Application{}
	err := c.get(ctx, spec, query, "v1", "applications", name, "spec")
	return spec, err
}

// History lists the versions of an application, newest first.
func (c *Client) History(ctx context.Context, name string) (list []VersionInfo, err error) {
	err = c.get(ctx, &list, nil, "v1", "applications", name, "history")
	return list, err
}

// Deploy makes the specs the wanted ones of their applications and worker
// groups.
func (c *Client) Deploy(ctx context.Context, req DeployRequest) (answer DeployResponse, err error) {
	if req.RequestID == "" {
		req.RequestID = uuid.NewString()
	}
	err = c.write(ctx, http.MethodPut, req, &answer, "v1", "applications")
	return answer, err
}

// Rollback makes the spec of an earlier version the wanted one again.
func (c *Client) Rollback(ctx context.Context, application string, req RollbackRequest) (answer RollbackResponse, err error) {
	if req.RequestID == "" {
		req.RequestID = uuid.NewString()
	}
	err = c.write(ctx, http.MethodPost, req, &answer, "v1", "applications", application, "rollback")
	return answer, err
}

// Steer pauses, resumes, promotes or aborts a rollout.
func (c *Client) Steer(ctx context.Context, application string, action raftstate.RolloutAction, req SteerRequest) (answer SteerResponse, err error) {
	if req.RequestID == "" {
		req.RequestID = uuid.NewString()
	}
	err = c.write(ctx, http.MethodPost, req, &answer, "v1", "applications", application, "rollout", string(action))
	return answer, err
}

// Plan says what Deploy would do.
func (c *Client) Plan(ctx context.Context, req PlanRequest) (answer PlanResponse, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return answer, err
	}
	_, err = c.do(ctx, request{method: http.MethodPost, path: []string{"v1", "plan"}, body: body}, &answer)
	return answer, err
}

// Scale sets the number of replicas of one deployment.
func (c *Client) Scale(ctx context.Context, application, deployment string, req ScaleRequest) (answer WriteResponse, err error) {
	if req.RequestID == "" {
		req.RequestID = uuid.NewString()
	}
	err = c.write(ctx, http.MethodPost, req, &answer, "v1", "applications", application, "deployments", deployment, "scale")
	return answer, err
}

// DeleteRequest is what Delete and DeleteWorkerGroup take beside the name.
type DeleteRequest struct {
	RequestID string
	Message   string
	By        string
}

// values are what DELETE takes beside the name.
func (r DeleteRequest) values() url.Values {
	query := url.Values{"request_id": {r.RequestID}}
	if r.Message != "" {
		query.Set("message", r.Message)
	}
	if r.By != "" {
		query.Set("by", r.By)
	}
	return query
}

// Delete begins the end of an application.
func (c *Client) Delete(ctx context.Context, name string, req DeleteRequest) (answer WriteResponse, err error) {
	if req.RequestID == "" {
		req.RequestID = uuid.NewString()
	}
	_, err = c.do(ctx, request{
		method: http.MethodDelete, path: []string{"v1", "applications", name}, query: req.values(), write: true,
	}, &answer)
	return answer, err
}

// Events lists what is remembered, oldest first; application "" is all.
func (c *Client) Events(ctx context.Context, application string, q Query) (list []raftstate.Event, index uint64, err error) {
	q.application = application
	index, err = c.blocking(ctx, &list, q, "v1", "events")
	return list, index, err
}

// Self says which server answers.
func (c *Client) Self(ctx context.Context) (info ServerInfo, err error) {
	err = c.get(ctx, &info, nil, "v1", "agent", "self")
	return info, err
}

// Health says whether the server is alive and knows a leader.
func (c *Client) Health(ctx context.Context) (health AgentHealth, err error) {
	err = c.get(ctx, &health, nil, "v1", "agent", "health")
	return health, err
}

// Leader returns the server that leads.
func (c *Client) Leader(ctx context.Context) (leader Peer, err error) {
	err = c.get(ctx, &leader, nil, "v1", "status", "leader")
	return leader, err
}

// Peers lists the servers.
func (c *Client) Peers(ctx context.Context) (list []Peer, err error) {
	err = c.get(ctx, &list, nil, "v1", "status", "peers")
	return list, err
}

func (c *Client) get(ctx context.Context, out any, query url.Values, path ...string) error {
	_, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query}, out)
	return err
}

// blocking is a GET that may wait for a change.
func (c *Client) blocking(ctx context.Context, out any, q Query, path ...string) (uint64, error) {
	req := request{method: http.MethodGet, path: path, query: q.values()}
	if q.Index != 0 {
		req.wait = cmp.Or(q.Wait, defaultWait)
	}
	return c.do(ctx, req, out)
}

// write sends a body that has a request id in it.
func (c *Client) write(ctx context.Context, method string, in, out any, path ...string) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, request{method: method, path: path, body: body, write: true}, out)
	return err
}
