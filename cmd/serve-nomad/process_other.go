//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// The signals that a proxy takes beside those that end it; there is none to
// upgrade it with.
const (
	reloadSignal  = syscall.SIGHUP
	upgradeSignal = syscall.Signal(-1)
)

func notifySignals() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 4)
	signal.Notify(signals, reloadSignal)
	return signals, func() { signal.Stop(signals) }
}

func maxOpenFiles() uint64 { return 0 }

func tellParent() error { return errors.New("it cannot be done on this system") }
