package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/http2"
)

// Bounds on an HTTP/2 connection to a replica.
const (
	streamBuffer = 256 << 10        // bytes of one response that are read ahead of its client
	writeStall   = 30 * time.Second // for which a replica may read nothing off a connection, whatever its windows say
)

// Dialer opens connections to replicas.
type Dialer struct {
	timeout   time.Duration // to connect
	patience  time.Duration // for a replica that is greeted over HTTP/2
	maxHeader int64         // bytes that the header of a response, or its trailer, may have
	h2        *http2.Transport
}

// NewDialer returns a dialer that waits so long for a connection, and with that
// patience for a greeting over HTTP/2 to be answered. The header of a response may
// have maxHeader bytes, and so may its trailer.
func NewDialer(timeout, patience time.Duration, maxHeader int64) *Dialer {
	return &Dialer{timeout: timeout, patience: patience, maxHeader: maxHeader, h2: newH2Transport(maxHeader)}
}

// Dial opens a connection for HTTP/1.1, by the deadline; zero: there is none.
func (d *Dialer) Dial(ctx context.Context, address string, deadline time.Time) (*Conn, error) {
	nc, err := d.connect(ctx, address, deadline)
	if err != nil {
		return nil, err
	}
	return NewConn(nc, d.maxHeader), nil
}

// DialH2 opens a connection for HTTP/2, and waits until the replica has said how many
// streams it takes, and with that, that it speaks HTTP/2: it has not been sent
// anything of a request by then.
func (d *Dialer) DialH2(ctx context.Context, address string, deadline time.Time) (*H2Conn, error) {
	nc, err := d.connect(ctx, address, deadline)
	if err != nil {
		return nil, err
	}
	cc, err := d.greet(ctx, nc)
	if err != nil {
		return nil, err
	}
	return &H2Conn{ClientConn: cc, Address: address, from: localAddress(nc)}, nil
}

func (d *Dialer) connect(ctx context.Context, address string, deadline time.Time) (net.Conn, error) {
	nd := net.Dialer{Timeout: d.timeout, Deadline: deadline, KeepAlive: 15 * time.Second}
	return nd.DialContext(ctx, "tcp", address)
}

// localAddress is where a connection comes from, as its other end sees it; not
// valid where that cannot be told.
func localAddress(nc net.Conn) netip.AddrPort {
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}

// newH2Transport returns what makes HTTP/2 connections out of TCP connections.
// It keeps none, and asks none for a sign of life: servers of gRPC end a
// connection on which they are asked more often than each five minutes.
func newH2Transport(maxHeader int64) *http2.Transport {
	t, err := http2.ConfigureTransports(&http.Transport{
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer},
	})
	if err != nil { // only of a transport that has been configured already
		t = &http2.Transport{DisableCompression: true}
	}
	t.AllowHTTP = true
	t.MaxHeaderListSize = uint32(min(maxHeader, 1<<30))
	t.WriteByteTimeout = writeStall
	return t
}

// greet exchanges HTTP/2's settings on a new connection, or closes it.
func (d *Dialer) greet(ctx context.Context, nc net.Conn) (*http2.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	cc, err := d.h2.NewClientConn(nc)
	if err != nil {
		_ = nc.Close() // it is of no use, however it closes
		return nil, fmt.Errorf("greet it over HTTP/2: %w", err)
	}
	if err := cc.Ping(ctx); err != nil {
		_ = cc.Close() // as above
		return nil, fmt.Errorf("it does not speak HTTP/2, or not in time: %w", err)
	}
	return cc, nil
}
