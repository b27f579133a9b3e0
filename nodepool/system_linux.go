package nodepool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// identity names a process for good: when it started, counted from which boot.
// It is "" when none has the pid, or one that has ended and waits for its parent.
func identity(pid int) string {
	stat, ok := readStat(pid)
	if !ok {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + stat.start
}

type procStat struct {
	parent int
	start  string // clock ticks since boot
}

// readStat reads /proc/<pid>/stat of a process that has not ended.
func readStat(pid int) (procStat, bool) {
	text, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return procStat{}, false
	}
	// The second field is the program's name in brackets, and may hold anything.
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return procStat{}, false
	}
	fields := strings.Fields(string(text[end+1:])) // from the third field on
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return procStat{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	return procStat{parent: parent, start: fields[19]}, err == nil
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

func allStats() map[int]procStat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	all := map[int]procStat{}
	for _, e := range entries {
		if pid, aerr := strconv.Atoi(e.Name()); aerr == nil {
			if stat, ok := readStat(pid); ok {
				all[pid] = stat
			}
		}
	}
	return all
}

// marked returns the processes of a machine: those with its token in their
// environment, those in the cgroup of one of its allocations, and what these
// started. This process and those that it descends from are never among them.
func marked(token string, allocations []string) []process {
	all := allStats()
	spared := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !spared[pid]; pid = all[pid].parent {
		spared[pid] = true
	}
	found := map[int]bool{}
	for pid := range all {
		if !spared[pid] && (hasToken(pid, token) || inCgroup(pid, allocations)) {
			found[pid] = true
		}
	}
	for grew := true; grew; {
		grew = false
		for pid, stat := range all {
			if !found[pid] && !spared[pid] && found[stat.parent] {
				found[pid], grew = true, true
			}
		}
	}
	var list []process
	for pid := range found {
		if start := identity(pid); start != "" {
			list = append(list, process{Pid: pid, Start: start})
		}
	}
	slices.SortFunc(list, func(a, b process) int { return a.Pid - b.Pid })
	return list
}

// configOf returns the config file that an agent was started with; "" of any
// other process.
func configOf(pid int) string {
	text, err := os.ReadFile(procPath(pid, "cmdline"))
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
	env, err := os.ReadFile(procPath(pid, "environ"))
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
	text, err := os.ReadFile(procPath(pid, "cgroup"))
	return err == nil && slices.ContainsFunc(allocations, func(id string) bool {
		return bytes.Contains(text, []byte("/"+id+"."))
	})
}

// unmountBelow unmounts what is mounted below a folder, the deepest first: what
// Nomad mounts for a task stays when Nomad is killed.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("find what is mounted below %s: %w", dir, err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
				points = append(points, point)
			}
		}
	}
	slices.SortFunc(points, func(a, b string) int { return len(b) - len(a) })
	var errs []error
	for _, point := range points {
		if err = syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}
