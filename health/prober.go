package health

import (
	"context"
	"sync"
)

// AtOnce is how many questions of a prober are under way at once.
const AtOnce = 256

// Prober asks replicas whether they can serve, for a whole proxy. It
// owns the goroutines that do so, and bounds how many of them ask.
type Prober struct {
	ask   Asker
	slots chan struct{}

	mu      sync.Mutex
	stopped bool
	ctx     context.Context // ends when the prober stops
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// NewProber returns a prober that asks by ask.
func NewProber(ask Asker) *Prober {
	p := &Prober{ask: ask, slots: make(chan struct{}, AtOnce)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Ask asks a replica, whose turn it is by Enter.
func (p *Prober) Ask(ctx context.Context, address string, c Check) error {
	return p.ask(ctx, address, c)
}

// Start runs f in a goroutine of its own, unless the prober has stopped.
func (p *Prober) Start(f func(ctx context.Context)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.running.Go(func() { f(p.ctx) })
	return true
}

// Stop ends all questions and waits for them.
func (p *Prober) Stop() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
}

// Enter waits until another question may be asked, and says whether it may: not
// when ctx has ended. Those who wait come in turn.
func (p *Prober) Enter(ctx context.Context) bool {
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Exit says that a question has been answered.
func (p *Prober) Exit() { <-p.slots }
