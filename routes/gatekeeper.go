package routes

import (
	"cmp"
	"hash/fnv"
	"net/netip"
)

// Gatekeeper is a proxy that hands out the slots of replicas, so that all
// proxies together keep each replica's limit.
type Gatekeeper struct {
	Address string `json:"address"` // host:port at which other proxies ask it
	Passing bool   `json:"passing"` // Consul can reach it
}

// GatekeeperOf returns the address of the gatekeeper of a replica: that on the
// replica's own host, whether it can be reached or not, for it alone knows what
// the replica has; of several, one that can be reached. A host that has none is given to one of the others, the same
// by every proxy that sees the same ones (rendezvous hashing), so that few
// replicas change hands when one comes or goes. "": there is none at all.
func GatekeeperOf(replica Endpoint, all []Gatekeeper) string {
	host := hostOf(replica.Address)
	own, best, most := "", "", uint64(0)
	for _, k := range all {
		if host.IsValid() && hostOf(k.Address) == host {
			if k.Passing {
				return k.Address
			}
			own = cmp.Or(own, k.Address)
		}
		if !k.Passing {
			continue
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(replica.Address)) // a hash takes everything
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(k.Address))
		if sum := mix(h.Sum64()); best == "" || sum > most || (sum == most && k.Address < best) {
			best, most = k.Address, sum
		}
	}
	return cmp.Or(own, best)
}

func hostOf(address string) netip.Addr {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// mix spreads a hash over all of its bits (the finalizer of MurmurHash3): FNV's
// high bits hardly depend on the last bytes.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
