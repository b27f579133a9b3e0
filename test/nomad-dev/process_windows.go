package nomaddev

import (
	"os"
	"syscall"
)

func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func terminate(p *os.Process) error { return p.Kill() }

func interruptGroup(p *os.Process) error { return p.Kill() }

func killGroup(p *os.Process) {
	if p != nil {
		p.Kill() //nolint:errcheck // the only error is that it has ended
	}
}

// Detached is how a process is started that goes on when its terminal closes.
func Detached() *syscall.SysProcAttr { return ownGroup() }
