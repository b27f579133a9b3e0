//go:build unix

package nodepool

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ownGroup starts a command in a process group that can be ended as a whole.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ownSession starts a process that no terminal's signal reaches, and that goes
// on when this process ends.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func terminateGroup(p *os.Process) error { return signalGroup(p, syscall.SIGTERM) }

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

// tryLock locks a file, or returns errLocked. The lock goes with this process,
// however that ends.
func tryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Its last holder may have removed the file since it was opened.
	held, herr := f.Stat()
	named, nerr := os.Stat(path)
	if herr != nil || nerr != nil || !os.SameFile(held, named) {
		f.Close()
		return nil, errLocked
	}
	return func() {
		os.Remove(path) //nolint:errcheck // a file that stays does no harm
		f.Close()
	}, nil
}
