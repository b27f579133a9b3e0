package nomaddev

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/serve-nomad/serve-nomad/proctable"
)

// PortOwner says which process listens on a TCP port, for people. It is "" when
// none does, and names only the user when the process is another user's.
func PortOwner(port int) string {
	inode, uid, ok := listener(port)
	if !ok {
		return ""
	}
	if pid := socketHolder(inode); pid != 0 {
		return fmt.Sprintf("%s (pid %d)", describe(pid), pid)
	}
	if u, err := user.LookupId(uid); err == nil {
		uid = u.Username
	}
	return "a process of user " + uid
}

// listener finds the socket that listens on a port.
func listener(port int) (inode, uid string, found bool) {
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			// sl local remote state queues timer retransmits uid timeout inode
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], suffix) {
				return f[9], f[7], true
			}
		}
	}
	return "", "", false
}

func socketHolder(inode string) int {
	want := "socket:[" + inode + "]"
	for _, pid := range proctable.All() {
		dir := proctable.File(pid, "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // another user's, or gone
		}
		for _, e := range entries {
			if link, lerr := os.Readlink(filepath.Join(dir, e.Name())); lerr == nil && link == want {
				return pid
			}
		}
	}
	return 0
}
