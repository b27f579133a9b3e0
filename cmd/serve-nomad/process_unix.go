//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// The signals that a proxy takes beside those that end it.
const (
	reloadSignal  = syscall.SIGHUP
	upgradeSignal = syscall.SIGUSR2
)

// notifySignals has signals sent to a channel, until stop is called. A log that
// nobody reads any more is from then on no reason to die.
func notifySignals() (signals chan os.Signal, stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	signals = make(chan os.Signal, 4)
	signal.Notify(signals, reloadSignal, upgradeSignal)
	return signals, func() { signal.Stop(signals) }
}

// maxOpenFiles is how many files this process may have open; 0: not known.
func maxOpenFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur) //nolint:unconvert // it is signed on some systems
}

// tellParent passes an upgrade signal on to the supervisor.
func tellParent() error { return syscall.Kill(os.Getppid(), upgradeSignal) }
