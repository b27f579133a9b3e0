package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// nothing is what a change takes of a proxy whose servers alone read the setting.
const nothing = "nothing"

// settingsInThePage reads the table of what a change of each setting takes.
func settingsInThePage(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(docsFolder, "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| setting | a change takes |\n|---|---|\n")
	if !found {
		t.Fatal("the page has no table of settings")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	takes := map[string]string{}
	for row := range strings.Lines(table) {
		cells := strings.Split(row, "|")
		list, prefix := cells[1], ""
		if rest, inner := strings.CutPrefix(list, " `proxy`:"); inner {
			list, prefix = rest, "proxy."
		}
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(list, -1) {
			takes[prefix+name[1]] = regexp.MustCompile("[a-z]+").FindString(cells[2])
		}
	}
	return takes
}

// settingsOfAProxy lists what there is, and what the program says a change takes.
func settingsOfAProxy() map[string]string {
	takes := map[string]string{"log_level": byReload, "proxy.advertise": nothing, "proxy.handle_advertise": nothing}
	for field := range reflect.TypeFor[proxyConfig]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("hcl"), ","); name != "" && takes["proxy."+name] == "" {
			takes["proxy."+name] = byReload
		}
	}
	for _, s := range defaultConfig().settled() {
		takes[s.field] = s.takes
	}
	return takes
}

func TestThePageSaysWhatEachSettingTakes(t *testing.T) {
	said, is := settingsInThePage(t), settingsOfAProxy()
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if said[name] != is[name] {
			t.Errorf("a change of %s takes %q, the page says %q", name, is[name], said[name])
		}
	}
	for name := range said {
		if is[name] == "" {
			t.Errorf("the page has %s, which is no setting of a proxy", name)
		}
	}
}

// A proxy whose log has no place does not start, and names the setting.
func TestALogWithoutAPlace(t *testing.T) {
	dir := shortFolder(t)
	p := newProxy(t, newTinyConsul(t, echoReplica(t)).URL, dir, fmt.Sprintf("access_log {\n enabled = true\n output = %q\n}", dir))
	p.launch()
	if err := <-p.ended; err == nil || p.output.count(`proxy\.access_log\.output = .*: is a directory; set `) != 1 {
		t.Errorf("it ended with %v", err)
	}
}

// A proxy that runs follows its configuration to another log, opens it anew, and
// names what it cannot change.
func TestAProxyReloadsItsTelemetry(t *testing.T) {
	dir := shortFolder(t)
	consul, handles := newTinyConsul(t, echoReplica(t)), freePort(t)
	p := newProxy(t, consul.URL, dir, "")
	reload := func(handles, more string) {
		t.Helper()
		p.configure(consul.URL, dir, handles, more)
		before := p.output.count("configuration read again")
		p.signal(reloadSignal)
		p.eventually("it is followed", func() bool { return p.output.count("configuration read again") > before })
	}
	logTo := func(name, more string) string {
		return fmt.Sprintf("access_log {\n enabled = true\n output = %q\n %s\n}", filepath.Join(dir, name), more)
	}
	get := func(path string) {
		t.Helper()
		res, err := http.Get("http://" + p.address + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, res.Status)
		}
	}
	logged := func(name, what string) {
		t.Helper()
		p.eventually(what+" is in "+name, func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, name))
			return strings.Contains(string(text), what)
		})
	}
	p.configure(consul.URL, dir, handles, "")
	p.start()
	get("/app/unseen")
	reload(handles, logTo("a.log", ""))
	get("/app/one")
	logged("a.log", `"path":"/app/one"`)
	reload(handles, logTo("b.log", `format = "combined"`))
	get("/app/two")
	logged("b.log", `"GET /app/two HTTP/1.1" 200`)
	if err := os.Rename(filepath.Join(dir, "b.log"), filepath.Join(dir, "b.log.1")); err != nil {
		t.Fatal(err)
	}
	reload(handles, logTo("b.log", `format = "combined"`))
	get("/app/three")
	logged("b.log", "/app/three")
	p.configure(consul.URL, dir, handles, logTo("no/such.log", ""))
	p.signal(reloadSignal)
	p.eventually("it is told", func() bool {
		return p.output.count(`cannot be followed.*proxy\.access_log\.output = .*no/such\.log.*: no such file or directory; set `) == 1
	})
	get("/app/four")
	logged("b.log", "/app/four")
	p.slots = freePort(t)
	reload(freePort(t), logTo("b.log", "")+"\nupgrade_socket = \"x\"")
	for _, said := range []string{
		"needs a restart or an upgrade .*proxy.handle_address", "needs a restart or an upgrade .*proxy.gatekeeper_address", "needs a restart of .*proxy.upgrade_socket",
	} {
		if p.output.count(said) != 1 {
			t.Errorf("it does not say %q", said)
		}
	}
	p.stop()
}
