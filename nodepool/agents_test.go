package nodepool

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatAnAgentComplainsOf(t *testing.T) {
	const quiet = "2026-01-01T00:00:00Z [INFO]  client: node registration complete\n"
	const wrong = "2026-01-01T00:00:01Z [ERROR] client: no servers\n"
	for name, c := range map[string]struct{ err, log, want string }{
		"it could not start":    {nomadBanner + "\n==> no such driver\n", quiet + wrong, "; it said: ==> no such driver"},
		"something went wrong":  {nomadBanner + "\n", wrong + quiet, "no servers"},
		"it was simply killed":  {nomadBanner + "\n", quiet, "; its log is "},
		"it never said a thing": {"", "", "; its log is "},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"nomad.err": c.err, "nomad.log": c.log} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got := folder(dir).complaint("nomad")
			if !strings.Contains(got, c.want) || strings.Contains(got, "mTLS") || strings.Contains(got, "registration") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
