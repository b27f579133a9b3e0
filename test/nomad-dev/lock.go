package nomaddev

import "errors"

// ErrLocked is returned when another process has the lock.
var ErrLocked = errors.New("another process has the lock")
