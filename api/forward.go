package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/hashicorp/go-hclog"
)

// forwardedHeader names the server that passed a request on. A request that
// has it is never passed on again.
const forwardedHeader = "X-Serve-Nomad-Forwarded-By"

// forwardGrace is what the leader's answer may take beyond the leader's own
// limit on a write.
const forwardGrace = 5 * time.Second

// forward lets the leader answer.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, found *route) error {
	if by := r.Header.Get(forwardedHeader); by != "" {
		return fail(CodeNoLeader, "server %s took this one for the leader, which it is not: nothing was done, an election is under way", by)
	}
	body, err := readUpTo(w, r, found.maxBody())
	if err != nil {
		return err
	}
	ctx := r.Context()
	if found.needs == write {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.ProposeLimit+forwardGrace)
		defer cancel()
	}
	inner := r.WithContext(ctx)
	inner.Body, inner.ContentLength, inner.TransferEncoding = http.NoBody, int64(len(body)), nil
	if len(body) > 0 {
		inner.Body = io.NopCloser(bytes.NewReader(body))
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Transport:     s.cfg.Cluster.LeaderTransport(),
		FlushInterval: -1, // streams
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "leader"
			p.Out.Header.Set(forwardedHeader, s.cfg.Info.ID)
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
		ErrorLog:     s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	proxy.ServeHTTP(w, inner)
	return forwardFailure(r, found, failed)
}

func forwardFailure(r *http.Request, found *route, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoLeader):
		return ErrNoLeader
	case found.path == loadsPath:
		return fail(CodeUnavailable, "the leader does not answer: %s", err) // the next report makes up for it
	case found.needs == write:
		return fail(CodeUnknownOutcome, "the leader's answer was lost (%s): the write may or may not have been done; "+
			"send it again with the same request_id, which applies it once", err)
	case r.Context().Err() != nil:
		return r.Context().Err()
	default:
		return fail(CodeUnavailable, "the leader does not answer: %s", err)
	}
}
