package nomaddev

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/serve-nomad/serve-nomad/proctable"
)

// identity returns when a process started, counted from which boot, and the
// program that it runs. A process that has ended and waits for its parent is
// none.
func identity(pid int) (start, exe string) {
	if start = proctable.Start(pid); start == "" {
		return "", ""
	}
	exe, err := os.Readlink(proctable.File(pid, "exe"))
	if err != nil {
		exe = "" // another user's
	}
	return start, strings.TrimSuffix(exe, " (deleted)")
}

// leftovers returns the processes that belong to a run folder: those with its
// mark, Nomad's executors and tasks whose folders lie below it, and what those
// started. This process and those that it descends from are never among them.
func leftovers(runDir string) []record {
	var all []record
	for _, pid := range proctable.Families(func(pid int) bool { return belongs(pid, runDir) }) {
		r := record{Pid: pid, name: describe(pid)}
		r.Start, r.Exe = identity(pid)
		all = append(all, r)
	}
	return all
}

// belongs says whether a process bears the mark of a run folder, or was started
// by Nomad for an allocation below it.
func belongs(pid int, runDir string) bool {
	if env, err := os.ReadFile(proctable.File(pid, "environ")); err == nil {
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
	cmdline, err := os.ReadFile(proctable.File(pid, "cmdline"))
	if err != nil {
		return false
	}
	args := strings.Split(string(cmdline), "\x00")
	return len(args) > 2 && filepath.Base(args[0]) == "nomad" && args[1] == "executor" &&
		strings.Contains(args[2], `"`+runDir+"/")
}

// cgroups returns the cgroups, below the folder where the system shows them,
// that Nomad has made for the allocations of a run folder. It removes them when a
// task ends, and nobody does when Nomad and its executors are killed first.
func cgroups(root, runDir string) (all []string) {
	for _, data := range []string{"*/data", "nodes/*/nomad"} { // of an agent, and of a node that a server has made
		allocations, _ := filepath.Glob(filepath.Join(runDir, data, "alloc", "????????-????-????-????-????????????")) // the pattern is right
		for _, a := range allocations {
			for _, parent := range []string{"*/nomad", "nomad.slice/*.slice"} { // cgroups v1 and v2
				groups, _ := filepath.Glob(filepath.Join(root, parent, filepath.Base(a)+".*")) // as above
				all = append(all, groups...)
			}
		}
	}
	return all
}

// describe is how a process is named to people.
func describe(pid int) string {
	cmdline, err := os.ReadFile(proctable.File(pid, "cmdline"))
	if err != nil || len(cmdline) == 0 {
		comm, cerr := os.ReadFile(proctable.File(pid, "comm"))
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
