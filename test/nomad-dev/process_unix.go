//go:build unix

package nomaddev

import (
	"errors"
	"os"
	"syscall"
)

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func interruptGroup(p *os.Process) error { return signalGroup(p, syscall.SIGINT) }

func killGroup(p *os.Process) {
	if p != nil {
		signalGroup(p, syscall.SIGKILL) //nolint:errcheck // the only error is that none is left
	}
}

func signalGroup(p *os.Process, sig syscall.Signal) error {
	err := syscall.Kill(-p.Pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Detached is how a process is started that goes on when its terminal closes.
func Detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
