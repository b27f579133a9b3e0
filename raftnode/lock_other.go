//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package raftnode

import "os"

// lockDir only opens the file: on this system it is the log's own lock that
// keeps a second process out.
func lockDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
