package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/appspec"
)

const docsFolder = "../../docs"

// blocks returns the code blocks of a language in a page of the documentation.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docsFolder, page))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		list = append(list, match[1])
	}
	if len(list) == 0 {
		t.Fatalf("%s shows no %s", page, language)
	}
	return list
}

func TestSpecsInTheDocumentationAreGood(t *testing.T) {
	for _, text := range blocks(t, "spec.md", "hcl") {
		_, diagnostics := appspec.Parse(appspec.Source{Files: []appspec.SourceFile{{Name: "spec.md", Body: []byte(text)}}})
		if len(diagnostics) > 0 {
			t.Error(diagnostics)
		}
	}
}

// The page says that the configuration in it shows the defaults.
func TestConfigurationInTheDocumentationShowsTheDefaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "server.hcl")
	if err := os.WriteFile(file, []byte(blocks(t, "operations.md", "hcl")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	shown, err := readConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	usual := defaultConfig()
	usual.Raft.Peers = []string{}
	usual.Nodes.Process.NomadServers, usual.Nodes.Process.ConsulServers = []string{}, []string{}
	usual.Proxy.TrustedProxies, usual.Proxy.ProxyProtocol = []string{}, []string{}
	usual.Name, usual.DataDir = shown.Name, shown.DataDir
	if err := usual.complete(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(shown, usual) {
		t.Errorf("the page shows %+v, the defaults are %+v", shown, usual)
	}
}

func TestDocumentationNamesEveryCommand(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docsFolder, "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range commands() {
		if !regexp.MustCompile("`" + name + "[ `]").Match(text) {
			t.Errorf("cli.md does not name %s", name)
		}
	}
}

// Whatever a command line in the documentation says, the program understands.
func TestCommandLinesInTheDocumentationAreRight(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(docsFolder, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)(?:^|`)serve-nomad ((?:[^`#\n]| #[^ ])*)")
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range line.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(match[1])
			if strings.HasPrefix(words[0], "-") || strings.HasPrefix(words[0], "<") {
				continue
			}
			construct, ok := commands()[strings.Join(words[:min(2, len(words))], " ")]
			if !ok {
				construct, ok = commands()[words[0]]
			}
			if !ok {
				t.Errorf("%s: there is no command %s", page, words[0])
				continue
			}
			help := construct(&base{ctx: t.Context(), getenv: func(string) string { return "" }}).Help()
			for _, word := range words[1:] {
				if name, isFlag := strings.CutPrefix(word, "-"); isFlag {
					name, _, _ = strings.Cut(name, "=")
					if !regexp.MustCompile(`(?m)^  -` + name + `\b`).MatchString(help) {
						t.Errorf("%s: %q: there is no flag -%s", page, match[0], name)
					}
				}
			}
		}
	}
}
