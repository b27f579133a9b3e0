package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Drain ends the proxy in order: it says on /-/healthz that it wants no more,
// keeps no connection for another request, takes no new connection, and waits
// for the requests that are under way. The port of the handles stays open until
// the public ones are done, for their replicas call each other through it. What
// is not done when ctx ends is cut off, and an error says so.
func (p *Proxy) Drain(ctx context.Context) error {
	p.draining.Store(true)
	p.mu.Lock()
	public, handle := slices.Clone(p.public), slices.Clone(p.handle)
	p.mu.Unlock()
	for _, s := range slices.Concat(public, handle) {
		s.SetKeepAlivesEnabled(false)
	}
	err := errors.Join(shutdown(ctx, public), p.finish(ctx), shutdown(ctx, handle), p.finish(ctx))
	p.sweep(time.Now().Add(time.Hour)) // every idle connection
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	return nil
}

// shutdown ends servers, by force when ctx ends first.
func shutdown(ctx context.Context, servers []*http.Server) error {
	var errs []error
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("shut down %s: %w", s.Addr, err), s.Close())
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
