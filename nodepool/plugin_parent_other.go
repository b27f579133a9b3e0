//go:build !linux

package nodepool

import "syscall"

func endsWithUs() *syscall.SysProcAttr { return ownGroup() }
