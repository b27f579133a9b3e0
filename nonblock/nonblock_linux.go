//go:build linux && (amd64 || arm64) && !race

package nonblock

import (
	"syscall"
	"unsafe"
)

// Read reads what there is. It returns 0 at the end, and syscall.EAGAIN where
// there is nothing.
func Read(fd uintptr, p []byte) (int, error) {
	return call(syscall.SYS_READ, fd, p, 0)
}

// Write writes what the kernel takes at once, or returns syscall.EAGAIN.
func Write(fd uintptr, p []byte) (int, error) {
	return call(syscall.SYS_WRITE, fd, p, 0)
}

// Peek is Read, and leaves the bytes where they are.
func Peek(fd uintptr, p []byte) (int, error) {
	return call(syscall.SYS_RECVFROM, fd, p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// call makes a system call that a signal may break off; flags are of those that
// have them.
func call(number, fd uintptr, p []byte, flags uintptr) (int, error) {
	for {
		n, _, err := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch err {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}
