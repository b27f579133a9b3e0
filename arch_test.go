// Package servenomad_test holds the tests about the repository itself.
package servenomad_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/serve-nomad/serve-nomad"

// layers is the architecture: each package of this module, with the packages
// of this module that it may import. ARCHITECTURE.md draws the same picture.
var layers = map[string][]string{
	// Words.
	"appspec":  {},
	"gpushare": {},
	"loads":    {},
	"routes":   {},

	// Decisions and state: values in, values out.
	"analysis":  {"loads"},
	"autoscale": {"appspec", "loads"},
	"balance":   {},
	"fairqueue": {},
	"jobspec":   {"appspec"},
	"nodescale": {"appspec", "placement", "raftstate"},
	"placement": {},
	"raftstate": {"appspec"},
	"reconcile": {"analysis", "appspec", "jobspec", "placement", "raftstate", "routes"},
	"slots":     {},

	// Doors: one outside system each.
	"consulsd":    {"routes"},
	"gpudevice":   {"gpushare"},
	"h1":          {"nonblock"},
	"h2":          {"nonblock"},
	"health":      {"h2", "routes", "upstream"},
	"listeners":   {},
	"metrics":     {},
	"nonblock":    {},
	"nodepool":    {"nodescale", "placement", "proctable"},
	"proctable":   {},
	"nomadjobs":   {"jobspec", "placement", "reconcile"},
	"raftnode":    {"raftstate"},
	"replicacall": {},
	"upstream":    {"h2", "nonblock"},
	"telemetry":   {"gate", "gatekeeper", "listeners", "proxy"}, // it observes them: records, status and counts are their words

	// Loops: read, decide, act. They reach doors through their own interfaces.
	"api":        {"appspec", "autoscale", "loads", "nodescale", "placement", "raftstate", "reconcile"},
	"controller": {"analysis", "appspec", "autoscale", "jobspec", "loads", "nodescale", "placement", "raftstate", "reconcile", "routes"},
	"gate":       {"balance", "fairqueue", "gatekeeper", "health", "loads", "routes", "upstream"},
	"gatekeeper": {"slots"},
	"gpuplugin":  {"gpudevice", "gpushare"},
	"proxy":      {"balance", "gate", "gatekeeper", "h1", "h2", "health", "loads", "routes", "upstream"},

	// Wiring.
	"cmd/serve-nomad":     {"*"},
	"cmd/serve-nomad-gpu": {"gpuplugin", "gpushare"},
	"test/bench":          {"*"},
	"test/conformance":    {"*"},
	"test/nomad-dev":      {"*"},
	"examples/hcl":        {"*"},

	// A replica of an example: a program of its own.
	"examples/hcl/echo": {},
}

// pure packages hold no effects, so they import nothing that can have one.
var (
	pure    = []string{"analysis", "appspec", "autoscale", "balance", "fairqueue", "gpushare", "loads", "routes", "jobspec", "nodescale", "placement", "raftstate", "reconcile", "slots"}
	effects = []string{"context", "log", "log/slog", "net", "net/http", "os", "os/exec", "sync"}
)

// doors names the packages that may import an outside system's client; the
// longest matching path rules. The rest of Nomad and Consul is under another
// licence and has no door. api.Task and api.Job are words that the pure
// packages pass on; only nomadjobs makes a client, which the linter holds.
var doors = map[string][]string{
	"github.com/NVIDIA/go-nvml":           {"gpudevice"},
	"github.com/hashicorp/consul":         {},
	"github.com/hashicorp/consul/api":     {"consulsd"},
	"github.com/hashicorp/go-plugin":      {"gpuplugin", "nodepool"},
	"github.com/hashicorp/hcl":            {"appspec", "cmd/serve-nomad"},
	"github.com/hashicorp/nomad":          {},
	"github.com/hashicorp/nomad/api":      {"appspec", "jobspec", "reconcile", "controller", "nomadjobs"},
	"github.com/hashicorp/nomad/jobspec2": {"appspec"},
	"github.com/hashicorp/nomad/plugins":  {"gpuplugin"},
	"github.com/hashicorp/raft":           {"raftstate", "raftnode"},
	"github.com/pires/go-proxyproto":      {"listeners"},
	"github.com/prometheus/client_golang": {"metrics", "telemetry"},
}

func TestArchitecture(t *testing.T) {
	for _, pkg := range listPackages(t) {
		name := strings.TrimPrefix(pkg.ImportPath, module+"/")
		allowed, known := layers[name]
		if !known {
			t.Errorf("%s has no place in the layer table", name)
		}
		if pkg.Doc == "" && len(pkg.GoFiles) > 0 {
			t.Errorf("%s has no package comment", name)
		}
		for _, imp := range pkg.Imports {
			inner, ours := strings.CutPrefix(imp, module+"/")
			if ours && !slices.Contains(allowed, inner) && !slices.Contains(allowed, "*") {
				t.Errorf("%s must not import %s", name, inner)
			}
			if slices.Contains(pure, name) && slices.Contains(effects, imp) {
				t.Errorf("%s is pure and must not import %s", name, imp)
			}
			if keepers, guarded := door(imp); guarded && !slices.Contains(keepers, name) {
				t.Errorf("%s must not import %s: its doors are %v", name, imp, keepers)
			}
		}
	}
}

// TestNoForeignLicence holds that nothing under the Business Source License is
// linked: from Nomad's and Consul's modules, only their API clients, the job parser and
// the wire of Nomad's plugins are under the MPL.
func TestNoForeignLicence(t *testing.T) {
	for _, pkg := range listPackages(t, "-deps") {
		path := pkg.ImportPath
		if strings.HasPrefix(path, "github.com/hashicorp/nomad/") && !under(path, nomadsOfMPL...) {
			t.Errorf("%s is linked and is not under the MPL", path)
		}
		if strings.HasPrefix(path, "github.com/hashicorp/consul/") && !under(path, "github.com/hashicorp/consul/api") {
			t.Errorf("%s is linked and is not under the MPL", path)
		}
	}
}

// nomadsOfMPL are the packages of Nomad's modules that may be linked.
var nomadsOfMPL = []string{
	"github.com/hashicorp/nomad/api",
	"github.com/hashicorp/nomad/jobspec2",
	"github.com/hashicorp/nomad/plugins/base/proto",
	"github.com/hashicorp/nomad/plugins/device/proto",
	"github.com/hashicorp/nomad/plugins/shared/hclspec",
	"github.com/hashicorp/nomad/plugins/shared/structs/proto",
}

func under(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// door returns the packages that may import path, and whether it is guarded.
func door(path string) (keepers []string, guarded bool) {
	longest := ""
	for system := range doors {
		if under(path, system) && len(system) > len(longest) {
			longest = system
		}
	}
	keepers, guarded = doors[longest]
	return keepers, guarded
}

type goPackage struct {
	ImportPath string
	Doc        string
	GoFiles    []string
	Imports    []string
}

func listPackages(t *testing.T, flags ...string) (pkgs []goPackage) {
	t.Helper()
	args := append([]string{"list", "-json=ImportPath,Doc,GoFiles,Imports"}, flags...)
	out, err := exec.CommandContext(t.Context(), "go", append(args, "./...")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var pkg goPackage
		err := dec.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		if pkg.ImportPath != module {
			pkgs = append(pkgs, pkg)
		}
	}
}
