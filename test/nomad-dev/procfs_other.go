//go:build !linux

package nomaddev

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/proctable"
)

// identity returns when a process started and the program that it runs, as ps
// tells them.
func identity(pid int) (start, exe string) {
	if start = proctable.Start(pid); start == "" {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return "", ""
	}
	return start, strings.Join(strings.Fields(string(out)), " ")
}

// leftovers returns nothing where the system does not show the environment of
// other processes: only recorded processes are ended.
func leftovers(string) []record { return nil }

// cgroups returns nothing: they are Linux's.
func cgroups(string, string) []string { return nil }

func describe(pid int) string {
	if _, exe := identity(pid); exe != "" {
		return exe
	}
	return "process " + strconv.Itoa(pid)
}
