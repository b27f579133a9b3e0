package nodepool

import "syscall"

// endsWithUs has a plugin end when this server is killed: nobody would end it
// then.
func endsWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
