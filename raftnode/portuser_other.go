//go:build !linux

package raftnode

// portUser would name the process that listens on a port; here it cannot.
func portUser(int) string { return "" }
