//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package raftnode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lockDir takes the lock at path until the returned file is closed, which the
// system does for a process that dies. The file holds the owner's pid.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(f, 32)) // only to name it
		closeErr := f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("in use by %s", ownerName(string(owner)))
		}
		return nil, errors.Join(err, closeErr)
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func ownerName(pid string) string {
	if pid = strings.TrimSpace(pid); pid == "" {
		return "another process"
	}
	return "process " + pid
}
