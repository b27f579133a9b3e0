package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/serve-nomad/serve-nomad/autoscale"
	"github.com/serve-nomad/serve-nomad/loads"
)

// LoadSink takes what proxies report of their load.
type LoadSink interface {
	// TakeLoads returns ErrNoLeader when this server does not decide what
	// scales. Any other error says what is wrong with the report.
	TakeLoads(r loads.Report) error
}

// Autoscaler says how deployments scale. Both return ErrNoLeader when this
// server does not decide that.
type Autoscaler interface {
	// Explain returns a raftstate.Refusal for a deployment that is not there or
	// does not scale, and ErrUnavailable when that cannot be told yet.
	Explain(application, deployment string) (autoscale.Explanation, error)
	Proxies() (autoscale.ProxyList, error)
}

// loadsPath takes the load reports.
const loadsPath = "/v1/loads"

// takeLoads is POST /v1/loads. It writes nothing to the log: a report that is
// lost is made up for by the next.
func takeLoads(c *call) error {
	sink := c.server.cfg.Loads
	if sink == nil {
		return fail(CodeUnavailable, "this server takes no load reports")
	}
	if err := checkMedia(c.r); err != nil {
		return err
	}
	body, err := readUpTo(c.w, c.r, maxReport)
	if err != nil {
		return err
	}
	report, err := decodeReport(body)
	if err != nil {
		return err
	}
	err = sink.TakeLoads(report)
	switch {
	case errors.Is(err, ErrNoLeader):
		return err
	case err != nil:
		return fail(CodeInvalid, "the load report is refused: %s", err)
	}
	return c.answer(struct{}{})
}

// decodeReport reads a report of this schema. Unlike what people send, it may
// have fields that are not known here: a proxy may be newer than the server.
func decodeReport(body []byte) (loads.Report, error) {
	var report loads.Report
	if len(bytes.Trim(body, jsonSpace)) == 0 {
		return report, fail(CodeInvalid, "the body is empty: send a load report")
	}
	err := json.Unmarshal(body, &report)
	if err == nil {
		return report, nil
	}
	var form struct {
		Schema *int `json:"schema"`
	}
	if json.Unmarshal(body, &form) == nil && form.Schema != nil && *form.Schema != loads.Schema {
		return report, fail(CodeInvalid, "the load report is refused: schema is %d, this server reads %d", *form.Schema, loads.Schema)
	}
	return report, fail(CodeInvalid, "the load report is refused: %s", jsonMessage(body, err))
}

// explain is GET .../autoscale.
func explain(c *call) error {
	if c.server.cfg.Autoscaler == nil {
		return fail(CodeUnavailable, "this server scales nothing")
	}
	explanation, err := c.server.cfg.Autoscaler.Explain(c.params["app"], c.params["deployment"])
	if err != nil {
		return err
	}
	return c.answer(explanation)
}

// listProxies is GET /v1/autoscale/proxies.
func listProxies(c *call) error {
	if c.server.cfg.Autoscaler == nil {
		return fail(CodeUnavailable, "this server scales nothing")
	}
	list, err := c.server.cfg.Autoscaler.Proxies()
	if err != nil {
		return err
	}
	return c.answer(list)
}

// SendLoads tells the leader of a proxy's load. It is sent once: the next report
// says what a lost one said, and later.
func (c *Client) SendLoads(ctx context.Context, r loads.Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	resp, err := c.once(ctx, request{method: http.MethodPost, path: []string{"v1", "loads"}, body: body})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// To its end, so that the connection can be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.Address(), err)
	}
	return nil
}

// Explain says how a deployment scales, and what would come of it now.
func (c *Client) Explain(ctx context.Context, application, deployment string) (out autoscale.Explanation, err error) {
	err = c.get(ctx, &out, nil, "v1", "applications", application, "deployments", deployment, "autoscale")
	return out, err
}

// ReportingProxies says what the leader knows of the proxies' load reports.
func (c *Client) ReportingProxies(ctx context.Context) (list autoscale.ProxyList, err error) {
	err = c.get(ctx, &list, nil, "v1", "autoscale", "proxies")
	return list, err
}
