package listeners

import (
	"net/netip"
	"slices"
	"time"
)

// Options is what a Listener asks of a connection before it gives it out. They
// may be changed while it runs; connections that are there keep what they came
// with.
type Options struct {
	// MaxConnections is how many connections may be open at once; 0: any number.
	MaxConnections int
	// MaxPerClient is how many of them one client address may have, and for
	// IPv6 one /64 network, which is what one client is given; 0: any number.
	MaxPerClient int
	// Uncounted are addresses that MaxPerClient does not bind: load balancers,
	// behind which there are many clients.
	Uncounted []netip.Prefix

	// ProxyProtocol are addresses that must send a PROXY protocol header, v1 or
	// v2, first of all. Nobody else may: what they send is taken for the request
	// that it is not.
	ProxyProtocol []netip.Prefix
	// HeaderTimeout is the time for that header; 0: DefaultHeaderTimeout.
	HeaderTimeout time.Duration

	// TLS gives certificates; nil: connections are not encrypted.
	TLS *Certificates
}

// DefaultHeaderTimeout is the time that a PROXY protocol header may take.
const DefaultHeaderTimeout = 5 * time.Second

func (o *Options) headerTimeout() time.Duration {
	if o.HeaderTimeout > 0 {
		return o.HeaderTimeout
	}
	return DefaultHeaderTimeout
}

// Contains says whether one of the prefixes holds the address.
func Contains(prefixes []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(address) })
}

// clientKey is what the connections of one client are counted by.
func clientKey(address netip.Addr) netip.Addr {
	if address.Is4() {
		return address
	}
	network, err := address.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return network.Addr()
}
