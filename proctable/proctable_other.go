//go:build !linux

package proctable

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Start names a process for good: when it started, as ps tells it. It is ""
// when none has the pid, or one that has ended and waits for its parent.
func Start(pid int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid)).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 6 || strings.HasPrefix(fields[0], "Z") {
		return ""
	}
	return strings.Join(fields[1:6], " ")
}

// Families returns nothing where the system does not show the environment of
// other processes.
func Families(func(pid int) bool) []int { return nil }

// MountsBelow returns nothing where the system does not tell.
func MountsBelow(string) ([]string, error) { return nil, nil }

// Unmount is not supported here.
func Unmount(string) error { return errors.ErrUnsupported }
