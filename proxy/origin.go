package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds how many addresses of X-Forwarded-For are looked at.
const maxHops = 32

// origin returns what the replica is told of the client: the addresses of
// X-Forwarded-For, the client's own first, and the scheme that it used.
//
// The address that the connection comes from is what is certain. Where it is
// one of the trusted proxies, what that says is believed: the last address of
// its X-Forwarded-For that is none of theirs is the client, which
// Request.RemoteAddr then says too. What stands before it anybody may have
// written, and it is left out.
func (p *Proxy) origin(r *http.Request) (addresses, scheme string) {
	addresses, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		addresses = r.RemoteAddr
	}
	scheme = "http"
	if r.TLS != nil {
		scheme = "https"
	}
	trusted := p.limits.Load().TrustedProxies
	if len(trusted) == 0 || !trusts(trusted, addresses) {
		return addresses, scheme
	}
	if told := r.Header.Values("X-Forwarded-Proto"); len(told) == 1 && (told[0] == "http" || told[0] == "https") {
		scheme = told[0]
	}
	hops := hops(r.Header, trusted)
	if len(hops) > 0 {
		r.RemoteAddr = hops[0]
		addresses = strings.Join(append(hops, addresses), ", ")
	}
	return addresses, scheme
}

// hops returns the addresses of X-Forwarded-For from the client's on. What is no
// address ends them: nobody knows who wrote it.
func hops(h http.Header, trusted []netip.Prefix) []string {
	said := strings.Split(strings.Join(h["X-Forwarded-For"], ","), ",")
	var hops []string // backwards
	for _, word := range slices.Backward(said) {
		hop, ok := hopAddress(strings.Trim(word, " \t"))
		if !ok || len(hops) == maxHops {
			break
		}
		hops = append(hops, hop)
		if !trusts(trusted, hop) {
			break
		}
	}
	slices.Reverse(hops)
	return hops
}

// hopAddress returns the address in one word of X-Forwarded-For, which some
// write with a port.
func hopAddress(word string) (string, bool) {
	if a, err := netip.ParseAddr(word); err == nil {
		return a.Unmap().WithZone("").String(), true
	}
	if a, err := netip.ParseAddrPort(word); err == nil {
		return a.Addr().Unmap().WithZone("").String(), true
	}
	return "", false
}

func trusts(trusted []netip.Prefix, address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a.Unmap().WithZone("")) })
}
