package nomaddev

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// identity returns when a process started, counted from which boot, and the
// program that it runs. A process that has ended and waits for its parent is
// none.
func identity(pid int) (start, exe string) {
	stat, ok := readStat(pid)
	if !ok || stat.zombie {
		return "", ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", ""
	}
	exe, err = os.Readlink(procPath(pid, "exe"))
	if err != nil {
		exe = "" // another user's
	}
	return strings.TrimSpace(string(boot)) + "/" + stat.start, strings.TrimSuffix(exe, " (deleted)")
}

type procStat struct {
	parent int
	start  string // clock ticks since boot
	zombie bool
}

func procPath(pid int, name string) string {
	return filepath.Join("/proc", strconv.Itoa(pid), name)
}

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
	if len(fields) < 20 {
		return procStat{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return procStat{}, false
	}
	return procStat{parent: parent, start: fields[19], zombie: fields[0] == "Z" || fields[0] == "X"}, true
}

func allPids() []int {
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

// leftovers returns the processes that belong to a run folder: those with its
// mark, Nomad's executors and tasks whose folders lie below it, and what those
// started. This process and those that it descends from are never among them.
func leftovers(runDir string) []record {
	stats := map[int]procStat{}
	for _, pid := range allPids() {
		if st, ok := readStat(pid); ok && !st.zombie {
			stats[pid] = st
		}
	}
	spared := map[int]bool{}
	for pid := os.Getpid(); pid > 0; pid = stats[pid].parent {
		if spared[pid] = true; stats[pid].parent == pid {
			break
		}
	}
	found := map[int]bool{}
	for pid := range stats {
		if !spared[pid] && belongs(pid, runDir) {
			found[pid] = true
		}
	}
	for grew := true; grew; {
		grew = false
		for pid, st := range stats {
			if !found[pid] && !spared[pid] && found[st.parent] {
				found[pid], grew = true, true
			}
		}
	}
	var all []record
	for pid := range found {
		r := record{Pid: pid, name: describe(pid)}
		r.Start, r.Exe = identity(pid)
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int { return a.Pid - b.Pid })
	return all
}

// belongs says whether a process bears the mark of a run folder, or was started
// by Nomad for an allocation below it.
func belongs(pid int, runDir string) bool {
	if env, err := os.ReadFile(procPath(pid, "environ")); err == nil {
		for kv := range strings.SplitSeq(string(env), "\x00") {
			name, value, _ := strings.Cut(kv, "=")
			switch name {
			case runDirVar:
				if value == runDir {
					return true
				}
			case "NOMAD_ALLOC_DIR", "NOMAD_TASK_DIR", "NOMAD_SECRETS_DIR":
				if strings.HasPrefix(value, runDir+"/") {
					return true
				}
			}
		}
	}
	cmdline, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	return len(args) > 2 && filepath.Base(args[0]) == "nomad" && args[1] == "executor" &&
		strings.Contains(args[2], `"`+runDir+"/")
}

// describe is how a process is named to people.
func describe(pid int) string {
	cmdline, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil || len(cmdline) == 0 {
		comm, cerr := os.ReadFile(procPath(pid, "comm"))
		if cerr != nil {
			return "process " + strconv.Itoa(pid)
		}
		cmdline = bytes.TrimSpace(comm)
	}
	text := strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	if len(text) > 80 {
		text = text[:77] + "..."
	}
	return text
}

// mountsBelow returns the mount points below dir, the deepest first.
func mountsBelow(dir string) []string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
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
	return found
}

func unmount(point string) error {
	return syscall.Unmount(point, syscall.MNT_DETACH)
}
