package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// TestH2DialIsShared holds that requests which need a connection wait for one
// dial, whose fault is theirs, and that a dialler who leaves is not their fault.
func TestH2DialIsShared(t *testing.T) {
	var p Pool
	fault := errors.New("refused")
	begun, finish := make(chan struct{}), make(chan error)
	dial := func() (*H2Conn, error) {
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

// TestAPoolKnowsItsOwnConnections holds what it says of them to what a server sees.
func TestAPoolKnowsItsOwnConnections(t *testing.T) {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	from := make(chan string, 2)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		from <- r.RemoteAddr
		if r.ProtoMajor == 2 {
			<-r.Context().Done()
		}
	}))
	s.Config.Protocols = &protocols
	s.Start()
	defer s.Close()
	address, d := s.Listener.Addr().String(), NewDialer(time.Second, time.Second, 1<<16)

	var p Pool
	c, err := p.Dial(t.Context(), d, address, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = c.nc.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	owns(t, &p, <-from)
	p.Put(c, time.Now())
	p.SetOpen(false)
	owns(t, &p)
	p.SetOpen(true)

	h2, err := p.TakeH2(t.Context(), address, func() (*H2Conn, error) { return d.DialH2(t.Context(), address, time.Time{}) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
		if res, err := h2.RoundTrip(r, nil); err == nil {
			_ = res.Body.Close()
		}
	}()
	seen := <-from
	owns(t, &p, seen)
	p.SetOpen(false) // with a stream on it
	owns(t, &p, seen)
	leave()
	<-ended
	p.PutH2(h2, time.Now())
	owns(t, &p)
}

func owns(t *testing.T, p *Pool, want ...string) {
	t.Helper()
	var got []string
	for _, from := range p.Own() {
		got = append(got, from.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("its own are %v, want %v", got, want)
	}
}
