//go:build unix && !(linux && (amd64 || arm64) && !race)

package nonblock

import (
	"errors"
	"syscall"
)

// Read reads what there is. It returns 0 at the end, and syscall.EAGAIN where
// there is nothing.
func Read(fd uintptr, p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Read(int(fd), p) })
}

// Write writes what the kernel takes at once, or returns syscall.EAGAIN.
func Write(fd uintptr, p []byte) (int, error) {
	return again(func() (int, error) { return syscall.Write(int(fd), p) })
}

// Peek is Read, and leaves the bytes where they are.
func Peek(fd uintptr, p []byte) (int, error) {
	return again(func() (int, error) {
		n, _, err := syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return n, err
	})
}

// again repeats a system call that a signal has broken off.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
