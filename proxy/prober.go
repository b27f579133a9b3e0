package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Bounds on a question to a replica.
const (
	probeTimeout = time.Second
	probeDial    = probeTimeout / 2 // to connect, so that who takes none is told from who is slow
	probeBody    = 4 << 10          // bytes read of an answer, as Consul does
	probeHeader  = 64 << 10         // bytes of an answer's header
	probesOfAll  = 256              // questions of the whole proxy under way at once
)

// prober asks replicas whether they can serve, for all gates of a proxy. It
// owns the goroutines that do so.
type prober struct {
	ask   func(ctx context.Context, address, path string) error // over HTTP/1.1; nil: it can serve
	askH2 func(ctx context.Context, address string, c healthCheck) error
	log   hclog.Logger
	slots chan struct{}

	mu      sync.Mutex
	stopped bool
	ctx     context.Context // ends when the prober stops
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newProber(log hclog.Logger) *prober {
	p := &prober{ask: newAsker(), askH2: newH2Asker(), log: log, slots: make(chan struct{}, probesOfAll)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// start runs f in a goroutine of its own, unless the prober has stopped.
func (p *prober) start(f func(ctx context.Context)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.running.Go(func() { f(p.ctx) })
	return true
}

// stop ends all questions and waits for them.
func (p *prober) stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
}

// enter waits until another question may be asked, and exit says that it has
// been. Gates come in turn.
func (p *prober) enter(ctx context.Context) bool {
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *prober) exit() { <-p.slots }

// put asks a replica as its deployment's check does.
func (p *prober) put(ctx context.Context, address string, c healthCheck) error {
	if c.protocol != "" {
		return p.askH2(ctx, address, c)
	}
	return p.ask(ctx, address, c.path)
}

// newAsker returns what asks a replica over HTTP, as Consul's check does: on a
// connection of its own, which it does not keep, because a server that does
// one thing at a time would wait for the next request on it.
func newAsker() func(ctx context.Context, address, path string) error {
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: probeDial}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: probeHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, address, path string) error {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			return err
		}
		r.Header.Set("User-Agent", "serve-nomad proxy health check")
		res, err := client.Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if !isServing(res.StatusCode) {
			return fmt.Errorf("it answers with status %d", res.StatusCode)
		}
		// To its end, or to where it is long: an answer that breaks off, or
		// takes too long, is none.
		if _, err := io.CopyN(io.Discard, res.Body, probeBody); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	}
}
