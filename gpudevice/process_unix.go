//go:build unix

package gpudevice

import "syscall"

// onItsOwn starts a process in a session of its own, so that no signal for the
// plugin's reaches it.
func onItsOwn() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
