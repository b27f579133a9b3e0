package nomaddev

import "syscall"

// ownGroup gives a child a process group of its own, and has the kernel ask it
// to end when this process ends.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
