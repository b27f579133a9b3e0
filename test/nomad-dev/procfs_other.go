//go:build !linux

package nomaddev

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// identity returns when a process started and the program that it runs, as ps
// tells them.
func identity(pid int) (start, exe string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-o", "stat=,lstart=,comm=", "-p", strconv.Itoa(pid)).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 7 || strings.HasPrefix(fields[0], "Z") {
		return "", ""
	}
	return strings.Join(fields[1:6], " "), strings.Join(fields[6:], " ")
}

// leftovers returns nothing where the system does not show the environment of
// other processes: only recorded processes are ended.
func leftovers(string) []record { return nil }

func describe(pid int) string {
	if _, exe := identity(pid); exe != "" {
		return exe
	}
	return "process " + strconv.Itoa(pid)
}

func mountsBelow(string) []string { return nil }

func unmount(string) error { return errors.ErrUnsupported }
