//go:build unix && !linux

package nodepool

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// identity names a process for good: when it started, as ps tells it. It is ""
// when none has the pid, or one that has ended and waits for its parent.
func identity(pid int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid)).Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 6 || strings.HasPrefix(fields[0], "Z") {
		return ""
	}
	return strings.Join(fields[1:6], " ")
}

// marked returns nothing where the system does not show the environment of other
// processes: what Nomad itself does not end when it leaves, stays.
func marked(string, []string) []process { return nil }

func configOf(int) string { return "" }

func unmountBelow(string) error { return nil }
