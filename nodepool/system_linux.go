package nodepool

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/proctable"
)

// marked returns the processes of a machine: those with its token in their
// environment, those in the cgroup of one of its allocations, and what these
// started. This process and those that it descends from are never among them.
func marked(token string, allocations []string) []process {
	var list []process
	for _, pid := range proctable.Families(func(pid int) bool { return hasToken(pid, token) || inCgroup(pid, allocations) }) {
		if start := proctable.Start(pid); start != "" {
			list = append(list, process{Pid: pid, Start: start})
		}
	}
	return list
}

// configOf returns the config file that an agent was started with; "" of any
// other process.
func configOf(pid int) string {
	text, err := os.ReadFile(proctable.File(pid, "cmdline"))
	if err != nil {
		return ""
	}
	args := strings.Split(string(text), "\x00")
	at := slices.Index(args, "agent")
	if at < 0 || at+1 == len(args) {
		return ""
	}
	_, path, _ := strings.Cut(args[at+1], "=")
	return path
}

func hasToken(pid int, token string) bool {
	env, err := os.ReadFile(proctable.File(pid, "environ"))
	if err != nil {
		return false // another user's, or gone
	}
	return slices.Contains(strings.Split(string(env), "\x00"), machineVar+"="+token)
}

// inCgroup says whether a process is in the cgroup that Nomad made for one of
// the allocations: a task that has cleared its environment still is.
func inCgroup(pid int, allocations []string) bool {
	if len(allocations) == 0 {
		return false
	}
	text, err := os.ReadFile(proctable.File(pid, "cgroup"))
	return err == nil && slices.ContainsFunc(allocations, func(id string) bool {
		return bytes.Contains(text, []byte("/"+id+"."))
	})
}
