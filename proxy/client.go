package proxy

import (
	"net"
	"sync"
	"time"
)

// clientCheckInterval is how often the proxy looks whether a client is still
// there whose body has not been read to its end; net/http looks only after that.
const clientCheckInterval = time.Second

// clientWatch looks now and then whether a client is still there.
type clientWatch struct {
	nc   net.Conn
	gone func() // called once at most

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// again sets the next look.
func (w *clientWatch) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
	case w.timer == nil:
		w.timer = time.AfterFunc(clientCheckInterval, w.look)
	default:
		w.timer.Reset(clientCheckInterval)
	}
}

func (w *clientWatch) look() {
	if clientGone(w.nc) {
		w.gone()
		return
	}
	w.again()
}

func (w *clientWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
