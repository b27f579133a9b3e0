package nomaddev

import (
	"errors"
	"syscall"
)

func inUse(err error) bool {
	const wsaAddressInUse = syscall.Errno(10048)
	return errors.Is(err, wsaAddressInUse)
}
