//go:build unix

package main

import (
	"os"
	"syscall"
)

// reopenSignals is what logrotate sends, as to nginx.
func reopenSignals() []os.Signal { return []os.Signal{syscall.SIGUSR1} }
