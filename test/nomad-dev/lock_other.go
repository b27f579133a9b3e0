//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package nomaddev

import (
	"errors"
	"fmt"
	"os"
)

// TryLock takes the lock at path, or returns ErrLocked. Where files cannot be
// locked, a folder stands for the lock, and a crash leaves it behind.
func TryLock(path string) (unlock func(), err error) {
	err = os.Mkdir(path+".d", 0o755)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%w (remove %s.d if none runs)", ErrLocked, path)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { os.Remove(path + ".d") }, nil //nolint:errcheck // the message of ErrLocked says what to do
}
