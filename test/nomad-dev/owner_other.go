//go:build !linux

package nomaddev

// PortOwner says which process listens on a TCP port. Here that cannot be known
// without tools that may be missing.
func PortOwner(int) string { return "" }
