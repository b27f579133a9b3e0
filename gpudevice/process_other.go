//go:build !unix

package gpudevice

import "syscall"

func onItsOwn() *syscall.SysProcAttr { return nil }
