//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package nomaddev

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// TryLock takes the lock at path, or returns ErrLocked. The lock goes with the
// process, however that ends.
func TryLock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return func() { f.Close() }, nil // the lock goes with the descriptor
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
