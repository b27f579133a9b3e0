package upstream

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/net/http2"
)

// TestH2DialIsShared holds that requests which need a connection wait for one
// dial, whose fault is theirs, and that a dialler who leaves is not their fault.
func TestH2DialIsShared(t *testing.T) {
	var p Pool
	fault := errors.New("refused")
	begun, finish := make(chan struct{}), make(chan error)
	dial := func() (*http2.ClientConn, error) {
		begun <- struct{}{}
		return nil, <-finish
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 3)
	take := func(ctx context.Context) {
		_, err := p.TakeH2(ctx, "a:1", dial)
		errs <- err
	}
	go take(ctx)
	<-begun
	other, stop := context.WithCancel(t.Context())
	go take(other)
	stop()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("one that leaves while another dials: %v", err)
	}
	go take(t.Context())
	cancel()
	finish <- ctx.Err()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("the dialler that left: %v", err)
	}
	<-begun // the third dials itself
	finish <- fault
	if err := <-errs; !errors.Is(err, fault) {
		t.Errorf("the third: %v", err)
	}
}
