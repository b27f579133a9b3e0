//go:build !unix

package h1

import "net"

// gone cannot tell here; a client that left is noticed when it is read from or
// written to.
func gone(net.Conn) bool { return false }
