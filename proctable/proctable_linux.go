package proctable

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Start names a process for good: when it started, counted from which boot. It
// is "" when none has the pid, or one that has ended and waits for its parent.
func Start(pid int) string {
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

// File is the path under which the system shows something of a process, such as
// its environ.
func File(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

type procStat struct {
	parent int
	start  string // clock ticks since boot
}

// readStat reads /proc/<pid>/stat of a process that has not ended.
func readStat(pid int) (procStat, bool) {
	text, err := os.ReadFile(File(pid, "stat"))
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

// All returns the pids of all processes.
func All() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, aerr := strconv.Atoi(e.Name()); aerr == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Families returns the processes of which belongs says so, and what these
// started, by pid. This process and those that it descends from are never among
// them.
func Families(belongs func(pid int) bool) []int {
	all := map[int]procStat{}
	for _, pid := range All() {
		if stat, ok := readStat(pid); ok {
			all[pid] = stat
		}
	}
	spared := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !spared[pid]; pid = all[pid].parent {
		spared[pid] = true
	}
	found := map[int]bool{}
	for pid := range all {
		if !spared[pid] && belongs(pid) {
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
	list := make([]int, 0, len(found))
	for pid := range found {
		list = append(list, pid)
	}
	slices.Sort(list)
	return list
}

// MountsBelow returns the mount points below a folder, the deepest first.
func MountsBelow(dir string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find what is mounted below %s: %w", dir, err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
				found = append(found, point)
			}
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return found, nil
}

// Unmount takes away a mount point.
func Unmount(point string) error { return syscall.Unmount(point, syscall.MNT_DETACH) }
