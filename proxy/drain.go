package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/h1"
)

// Drain ends the proxy in order. For DrainNotice it serves as before, but says
// on /-/healthz that it wants no more, and with each response that its
// connection ends: a connection closed without a word loses the request that is
// on its way. Then it closes idle connections, takes no new ones, and waits for
// the requests that are under way. The port of the handles stays open until the
// public ones are done, for their replicas call each other through it. What is
// not done when ctx ends is cut off, and an error says so. Loads are reported
// until the end, and then that this proxy leaves, which takes up to a second.
func (p *Proxy) Drain(ctx context.Context) error {
	p.draining.Store(true)
	p.giveNotice(ctx, nil, p.config.DrainNotice)
	return p.end(ctx)
}

// HandOver ends the proxy as Drain does, when another process has its ports
// already and nothing new comes. So nobody is told that this one is not healthy,
// and it has time: a connection that is kept is served until the response that
// says that it ends, or until it is idle for too long as at any time. quiet is
// closed when no client is connected any more. The load that is left here is
// reported under another name, for the next process reports under this one's.
func (p *Proxy) HandOver(ctx context.Context, quiet <-chan struct{}) error {
	p.succeeded.Store(true)
	p.draining.Store(true)
	if p.reporter != nil {
		p.reporter.rename()
	}
	p.giveNotice(ctx, quiet, p.limits.Load().KeepAlive)
	return p.end(ctx)
}

// end is what Drain and HandOver have in common.
func (p *Proxy) end(ctx context.Context) error {
	p.mu.Lock()
	public, handle := slices.Clone(p.public), slices.Clone(p.handle)
	p.mu.Unlock()
	for _, s := range slices.Concat(public, handle) {
		s.SetKeepAlivesEnabled(false)
	}
	p.copying.cut() // while other requests finish
	err := errors.Join(shutdown(ctx, public), p.finish(ctx), shutdown(ctx, handle), p.finish(ctx))
	p.abandonCopies(ctx)
	p.sweep(time.Now().Add(time.Hour)) // every idle connection
	if p.reporter != nil {
		p.reporter.leave()
	}
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// giveNotice waits for d, until quiet, or until ctx ends: so long clients have to
// see that the proxy drains.
func (p *Proxy) giveNotice(ctx context.Context, quiet <-chan struct{}, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-quiet:
	case <-ctx.Done():
	}
}

// lastOnConnection tells the client, while the proxy drains, that its connection
// takes no more requests. The server makes a GOAWAY of it for HTTP/2.
func (p *Proxy) lastOnConnection(h http.Header) {
	if p.draining.Load() {
		h.Set("Connection", "close")
	}
}

// abandonCopies breaks off the copies of requests, and waits until their replicas
// have finished, or ctx ends: they are nobody's loss.
func (p *Proxy) abandonCopies(ctx context.Context) {
	p.copying.cut()
	select {
	case <-p.copying.wait():
	case <-ctx.Done():
	}
}

// shutdown ends servers, by force when ctx ends first.
func shutdown(ctx context.Context, servers []*h1.Server) error {
	var errs []error
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("shut down %s: %w", s.Fallback.Addr, err), s.Close())
		}
	}
	return errors.Join(errs...)
}

// finish waits for tunnels and lingers, and cuts them when ctx ends first.
func (p *Proxy) finish(ctx context.Context) error {
	idle := p.busy.wait()
	select {
	case <-idle:
		return nil
	default:
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		p.busy.cut()
		<-idle
		return fmt.Errorf("wait for tunnels: %w", context.Cause(ctx))
	}
}
