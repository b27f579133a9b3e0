package api

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// How long a blocking query waits, as in Nomad and Consul.
const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	jitterPart  = 16 // up to a sixteenth more, so that watchers do not come back all at once
)

// look returns what there is to see now. Its World is never nil.
func (c *call) look() *View { return c.complete(c.cluster().View()) }

// complete fills in for a World that this server has not seen.
func (c *call) complete(view *View) *View {
	if view.World != nil || c.stale {
		return view // for a stale read, Summarise says that this server does not look
	}
	filled := *view
	const unseen = "not seen yet by the server that leads"
	filled.World = &reconcile.World{NomadError: "Nomad: " + unseen, ConsulError: "Consul: " + unseen}
	return &filled
}

// rendered is an answer that is ready to be sent, or compared.
type rendered struct {
	status int
	body   []byte
}

func render(view *View, build func(*View) (any, error)) (rendered, error) {
	value, err := build(view)
	status := http.StatusOK
	if err != nil {
		f := asFailure(err)
		status, value = f.Code.status(), f.ErrorResponse
	}
	body, err := json.Marshal(value)
	return rendered{status, body}, err
}

// watch answers with what build makes of the newest View. With ?index= of that
// very View it first waits until build makes something else, or ?wait= is over.
func (c *call) watch(build func(*View) (any, error)) error {
	index, err := c.number("index")
	if err != nil {
		return err
	}
	wait, err := c.wait()
	if err != nil {
		return err
	}
	view := c.look()
	out, err := render(view, build)
	if err != nil {
		return err
	}
	if index != 0 && index == viewIndex(view) {
		done, err := c.startWatch()
		if err != nil {
			return err
		}
		defer done()
		if view, out, err = c.await(wait, view, out, build); err != nil {
			return err
		}
	}
	header := c.w.Header()
	header.Set(IndexHeader, strconv.FormatUint(viewIndex(view), 10))
	header.Set("Content-Type", "application/json; charset=utf-8")
	c.w.WriteHeader(out.status)
	_, err = c.w.Write(append(out.body, '\n'))
	return err
}

func (c *call) await(wait time.Duration, view *View, out rendered, build func(*View) (any, error)) (*View, rendered, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), wait+rand.N(wait/jitterPart+1))
	defer cancel()
	for {
		view = c.complete(c.cluster().Wait(ctx, view.Index))
		if !c.maySee() {
			return nil, rendered{}, ErrNoLeader
		}
		next, err := render(view, build)
		if err != nil {
			return nil, rendered{}, err
		}
		changed := next.status != out.status || !bytes.Equal(next.body, out.body)
		if changed || ctx.Err() != nil {
			return view, next, nil
		}
	}
}

// viewIndex is never 0: a client that sent 0 back would not block.
func viewIndex(view *View) uint64 { return max(1, view.Index) }

// startWatch counts a request that holds its connection for long.
func (c *call) startWatch() (done func(), err error) {
	s := c.server
	if s.watches.Add(1) > int64(s.cfg.MaxWatches) {
		s.watches.Add(-1)
		return nil, fail(CodeTooManyRequests, "%d requests wait for changes here already", s.cfg.MaxWatches)
	}
	return func() { s.watches.Add(-1) }, nil
}

func (c *call) wait() (time.Duration, error) {
	text := c.query.Get("wait")
	if text == "" {
		return defaultWait, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait <= 0 {
		return 0, fail(CodeInvalid, "wait must be a duration such as 30s, not %q", text)
	}
	return min(wait, maxWait), nil
}

// number reads a parameter that counts something; absent is 0.
func (c *call) number(name string) (uint64, error) {
	text := c.query.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fail(CodeInvalid, "%s must be a whole number, not %q", name, text)
	}
	return n, nil
}
