package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/serve-nomad/serve-nomad/h2"
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
}

// NewDialer returns a dialer that waits so long for a connection, and with that
// patience for a greeting over HTTP/2 to be answered. The header of a response may
// have maxHeader bytes, and so may its trailer.
func NewDialer(timeout, patience time.Duration, maxHeader int64) *Dialer {
	return &Dialer{timeout: timeout, patience: patience, maxHeader: maxHeader}
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
	return &H2Conn{Conn: cc, Address: address, from: localAddress(nc)}, nil
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

// greet makes a connection of HTTP/2 out of nc, or closes it. It asks for no sign
// of life later on: servers of gRPC end a connection on which they are asked more
// often than each five minutes.
func (d *Dialer) greet(ctx context.Context, nc net.Conn) (*h2.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	cc, err := h2.New(ctx, nc, h2.Config{MaxHeader: d.maxHeader, StreamBuffer: streamBuffer, WriteStall: writeStall})
	if err != nil {
		return nil, fmt.Errorf("it does not speak HTTP/2, or not in time: %w", err)
	}
	return cc, nil
}
