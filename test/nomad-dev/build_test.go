package nomaddev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildLog(t *testing.T) {
	l := &buildLog{}
	for _, part := range []string{
		"go: downloading github.com/a/b v1.0.0\ngo: downl", "oading github.com/c/d v1.0.0\n",
		"internal/abi\nunicode/utf8\n", "# github.com/a/b\n./x.go:1:2: undefined: y\n", "half a li",
	} {
		fmt.Fprint(l, part)
	}
	if l.downloaded != 2 || l.compiled != 2 {
		t.Errorf("%d downloaded, %d compiled; want 2 and 2", l.downloaded, l.compiled)
	}
	for _, want := range []string{"# github.com/a/b", "undefined: y", "half a li"} {
		if !strings.Contains(l.tail(), want) {
			t.Errorf("%q does not say %q", l.tail(), want)
		}
	}
}

func TestFind(t *testing.T) {
	fake := func(t *testing.T, dir, name, version string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+version+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	setup := func(t *testing.T) (bin, cache string) {
		t.Helper()
		bin, cache = t.TempDir(), t.TempDir()
		t.Setenv("PATH", bin)
		t.Setenv("SERVE_NOMAD_NOMAD_BIN", "")
		t.Setenv("SERVE_NOMAD_CONSUL_BIN", "")
		return bin, cache
	}
	cached := func(t *testing.T, cache string, k kind) string {
		t.Helper()
		path := k.cachedPath(cache)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("takes what is on PATH", func(t *testing.T) {
		bin, cache := setup(t)
		nomad, consul := fake(t, bin, "nomad", "Nomad v1.7.0"), fake(t, bin, "consul", "Consul v1.16.0")
		got, err := Find(t.Context(), Options{CacheDir: cache})
		if err != nil || got.Nomad.Path != nomad || got.Consul.Path != consul || got.Nomad.Version.String() != "1.7.0" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("takes the cached one when that on PATH is too old or broken", func(t *testing.T) {
		bin, cache := setup(t)
		fake(t, bin, "nomad", "Nomad v1.6.5")
		fake(t, bin, "consul", "none")
		nomad, consul := cached(t, cache, nomadKind()), cached(t, cache, consulKind())
		got, err := Find(t.Context(), Options{CacheDir: cache})
		if err != nil || got.Nomad.Path != nomad || got.Consul.Path != consul {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("takes the one that a variable names, and no other", func(t *testing.T) {
		bin, cache := setup(t)
		old := fake(t, bin, "nomad", "Nomad v1.6.5")
		cached(t, cache, nomadKind())
		t.Setenv("SERVE_NOMAD_NOMAD_BIN", old)
		if _, err := Find(t.Context(), Options{CacheDir: cache}); err == nil || !strings.Contains(err.Error(), "too old") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("says what to install when there is no Go", func(t *testing.T) {
		_, cache := setup(t)
		_, err := Find(t.Context(), Options{CacheDir: cache})
		if err == nil || !strings.Contains(err.Error(), "install nomad 1.7 or newer") || !strings.Contains(err.Error(), "go.dev/dl") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("leaves nothing in the place of a build that failed", func(t *testing.T) {
		bin, cache := setup(t)
		goTool := filepath.Join(bin, "go")
		script := "#!/bin/sh\necho 'go: downloading x v1'\necho 'x.go:1: it is broken'\nexit 1\n"
		if err := os.WriteFile(goTool, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		_, err := Find(t.Context(), Options{CacheDir: cache, Progress: &said})
		if err == nil || !strings.Contains(err.Error(), "it is broken") {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(said.String(), "this is done once") {
			t.Errorf("it said %q", &said)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(nomadKind().cachedPath(cache)), "*"))
		if err != nil || len(left) != 0 {
			t.Errorf("%q are left, %v", left, err)
		}
	})
}

// TestPinnedModules holds that the module files name the versions that the code
// says they do.
func TestPinnedModules(t *testing.T) {
	for _, k := range []kind{nomadKind(), consulKind()} {
		text, err := moduleFiles.ReadFile("agents/" + k.name + "/go.mod.txt")
		if err != nil {
			t.Fatal(err)
		}
		found := ""
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(strings.TrimPrefix(line, "require ")); len(f) > 1 && f[0] == k.module {
				found = f[1]
			}
		}
		if found != "v"+k.pinned {
			t.Errorf("go.mod of %s requires %q, the code says v%s", k.name, found, k.pinned)
		}
	}
}
