package appspec

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata, or writes the file.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestGolden parses each testdata/*.hcl. Beside it is what comes out: the
// diagnostics as people see them, or the file as JSON.
func TestGolden(t *testing.T) {
	specs, err := filepath.Glob("testdata/*.hcl")
	if err != nil || len(specs) == 0 {
		t.Fatalf("no specs: %v", err)
	}
	for _, spec := range specs {
		name := strings.TrimSuffix(filepath.Base(spec), ".hcl")
		t.Run(name, func(t *testing.T) {
			body, err := os.ReadFile(spec)
			if err != nil {
				t.Fatal(err)
			}
			file, diags := Parse(Source{
				Files:            []SourceFile{{Name: filepath.Base(spec), Body: body}},
				FS:               os.DirFS("testdata"),
				AllowUnsupported: strings.HasPrefix(name, "later"),
			})
			var text bytes.Buffer
			if err := diags.WriteText(&text, false, 80); err != nil {
				t.Fatal(err)
			}
			if !diags.HasErrors() {
				out, err := json.MarshalIndent(file, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				text.Write(append(dropEmpty(out), '\n'))
			}
			golden(t, name+".txt", text.Bytes())
		})
	}
}

// dropEmpty leaves out the many fields of a Nomad task that are not set.
func dropEmpty(raw []byte) []byte {
	var kept [][]byte
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		value := bytes.TrimSuffix(bytes.TrimSpace(line), []byte(","))
		if !bytes.HasSuffix(value, []byte(": null")) && !bytes.HasSuffix(value, []byte(`: ""`)) && !bytes.HasSuffix(value, []byte(": false")) {
			kept = append(kept, line)
		}
	}
	return bytes.Join(kept, []byte("\n"))
}

const oneDeployment = `application "a" {
  ingress = deployment.d
  deployment "d" {
    %s
    task {
      driver = "exec"
      %s
    }
  }
}
`

func source(deployment, task string) Source {
	body := strings.Replace(oneDeployment, "%s", deployment, 1)
	body = strings.Replace(body, "%s", task, 1)
	return Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(body)}}}
}

// accept parses what has no fault.
func accept(t *testing.T, in Source) *File {
	t.Helper()
	file, diags := Parse(in)
	if diags.HasErrors() {
		t.Fatalf("refused:\n%s", diags.Error())
	}
	return file
}

func TestDefaults(t *testing.T) {
	file := accept(t, source("", ""))
	want := &Application{
		Name: "a", RoutePrefix: "/", Ingress: "d",
		Deployments: []*Deployment{{
			Name: "d", NumReplicas: 1, MaxOngoingRequests: 5, MaxQueuedRequests: -1,
			Resources:               Resources{CPU: 0.1, MemoryMB: 128},
			Task:                    &api.Task{Driver: "exec"},
			HealthCheck:             HealthCheck{Path: "/healthz", Period: Duration(2 * time.Second), Timeout: Duration(time.Second)},
			GracefulShutdownTimeout: Duration(20 * time.Second),
		}},
	}
	if diff := cmp.Diff(want, file.Applications[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMemory(t *testing.T) {
	for in, want := range map[string]int{
		`"1GiB"`: 1024, `"512MiB"`: 512, `"1GB"`: 954, `"1.5 GiB"`: 1536, `"20971520KiB"`: 20480, "300": 300, `"1TiB"`: 1 << 20,
		`"1Gi"`: 0, `"1"`: 0, `""`: 0, `"GiB"`: 0, `"-1GiB"`: 0, `"1e3GiB"`: 0, `"1..5GiB"`: 0, `"."`: 0, "1.5": 0, "true": 0,
		"[1]": 0, "1e30": 0, `"99999999999TiB"`: 0, "-5": 0, "0": 0, `"NaNGiB"`: 0,
	} {
		t.Run(in, func(t *testing.T) {
			file, diags := Parse(source("resources {\n memory = "+in+"\n}", ""))
			if want == 0 {
				if len(diags) != 1 || diags[0].Line != 5 || diags[0].Column != 11 {
					t.Errorf("one diagnostic at 5:11 is wanted, not %v", diags)
				}
				return
			}
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if got := file.Applications[0].Deployments[0].Resources.MemoryMB; got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		})
	}
}

func TestCountsAreChecked(t *testing.T) {
	for _, value := range []string{"-1", "1e308", "-1e308", "1.5", "1/0", "0/0", `"x"`, "true", "[]", "1e400", "100001", `"NaN"`, `"Inf"`, `"-Inf"`, `"1e999999999"`} {
		t.Run(value, func(t *testing.T) {
			_, diags := Parse(source("num_replicas = "+value, ""))
			if !diags.HasErrors() || diags[0].Line != 4 {
				t.Errorf("an error on line 4 is wanted, not %v", diags)
			}
			if len(diags) > 1 {
				t.Errorf("one diagnostic is wanted, not %v", diags)
			}
		})
	}
	file := accept(t, source("num_replicas = \"3\"\nmax_queued_requests = 0\npriority_headers = true", ""))
	if got := file.Applications[0].Deployments[0]; got.NumReplicas != 3 || !got.PriorityHeaders {
		t.Errorf("got %+v", got)
	}
}

func TestVariablesComeFromOutside(t *testing.T) {
	const spec = `
variable "n" {
  type    = number
  default = 1
}
variable "args" {
  type    = list(string)
  default = []
}
variable "any" {
  default = "x"
  validation {
    condition     = strlen(var.any) < 10
    error_message = "Too long."
  }
}
application "a" {
  ingress = deployment.d
  deployment "d" {
    num_replicas = var.n
    task {
      driver = "exec"
      config {
        args = concat(var.args, [var.any])
      }
    }
  }
}
`
	in := Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(spec)}}}
	args := func(file *File) any { return file.Applications[0].Deployments[0].Task.Config["args"] }

	t.Run("the default holds when nothing else is given", func(t *testing.T) {
		if diff := cmp.Diff([]any{"x"}, args(accept(t, in))); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("-var wins over files, and files over the environment", func(t *testing.T) {
		in := in
		in.Env = []string{"SERVE_NOMAD_VAR_n=2", "SERVE_NOMAD_VAR_args=[\"env\"]", "SERVE_NOMAD_VAR_any=env", "SERVE_NOMAD_VAR_other=1"}
		in.VarFiles = []SourceFile{{Name: "a.vars", Body: []byte("args = [\"file\"]\nany = \"file\"\n")}}
		in.Vars = map[string]string{"any": "flag"}
		file := accept(t, in)
		if diff := cmp.Diff([]any{"file", "flag"}, args(file)); diff != "" {
			t.Error(diff)
		}
		if n := file.Applications[0].Deployments[0].NumReplicas; n != 2 {
			t.Errorf("n is %d", n)
		}
	})
	t.Run("faults are told", func(t *testing.T) {
		in := in
		in.Vars = map[string]string{"m": "1", "n": "many", "args": "[1", "any": "far too long a text"}
		in.VarFiles = []SourceFile{{Name: "a.vars", Body: []byte("arg = 1\nblock {\n}\n")}}
		_, diags := Parse(in)
		var text bytes.Buffer
		if err := diags.WriteText(&text, false, 0); err != nil {
			t.Fatal(err)
		}
		golden(t, "variables-faults.txt", text.Bytes())
	})
}

func TestFileFunctions(t *testing.T) {
	files := fstest.MapFS{
		"conf/app.conf": {Data: []byte("hello ${not a template}\n")},
		"image":         {Data: []byte{0xff, 0x00}},
		"large":         {Data: bytes.Repeat([]byte("x"), MaxFileSize+1)},
		"folder/x":      {},
	}
	env := func(expr string) Source {
		in := source("", "env {\n X = "+expr+"\n}")
		in.FS = files
		return in
	}
	for expr, want := range map[string]string{
		`file("conf/app.conf")`:           "hello ${not a template}\n",
		`file("./conf/../conf/app.conf")`: "hello ${not a template}\n",
		`filebase64("image")`:             "/wA=",
		`fileexists("image")`:             "true",
		`fileexists("none")`:              "false",
		`fileexists("folder")`:            "false",
	} {
		t.Run(expr, func(t *testing.T) {
			file := accept(t, env(expr))
			if got := file.Applications[0].Deployments[0].Task.Env["X"]; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	for _, expr := range []string{
		`file("../secret")`, `file("/etc/passwd")`, `file("conf/../../x")`, `file("none")`, `file("image")`,
		`file("large")`, `file("folder")`, `file("")`, `file(null)`, `file("a\u0000b")`, `fileset(".", "*")`, `abspath("x")`,
	} {
		t.Run("refuses "+expr, func(t *testing.T) {
			_, diags := Parse(env(expr))
			if len(diags) != 1 || diags[0].Line != 8 {
				t.Errorf("one diagnostic on line 8 is wanted, not %v", diags)
			}
		})
	}
	t.Run("there are none without a folder", func(t *testing.T) {
		in := env(`file("conf/app.conf")`)
		in.FS = nil
		if _, diags := Parse(in); len(diags) != 1 {
			t.Errorf("got %v", diags)
		}
	})
}

func TestWhatNomadFillsInIsPassedOn(t *testing.T) {
	for expr, want := range map[string]string{
		`"${NOMAD_PORT_http}"`:                          "${NOMAD_PORT_http}",
		`"http://${NOMAD_ADDR_http}/x"`:                 "http://${NOMAD_ADDR_http}/x",
		`"${attr.kernel.name}-${meta.rack}"`:            "${attr.kernel.name}-${meta.rack}",
		`"${node.unique.id}"`:                           "${node.unique.id}",
		`"${env["HOME"]}"`:                              `${env["HOME"]}`,
		`"${PORT}"`:                                     "${PORT}",
		`"${ attr.cpu.arch }}}"`:                        "${attr.cpu.arch}}}",
		`"$${anything} %%{if}"`:                         "${anything} %{if}",
		`attr.kernel.name`:                              "${attr.kernel.name}",
		`"é ${upper("ü")} \" \\ \t 日本 \U0001F600"`:      "é Ü \" \\ \t 日本 😀",
		"<<-E\n    a ${NOMAD_TASK_DIR}\n      b\n    E": "a ${NOMAD_TASK_DIR}\n  b\n",
		`"${true ? "yes" : "no"}"`:                      "yes",
		`1.5`:                                           "1.5",
		`jsonencode({a = [1, "b"]})`:                    `{"a":[1,"b"]}`,
	} {
		t.Run(expr, func(t *testing.T) {
			file := accept(t, source("", "env {\n X = "+expr+"\n}"))
			if got := file.Applications[0].Deployments[0].Task.Env["X"]; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	if _, diags := Parse(source("", "env {\n X = \"${vra.x}\"\n}")); len(diags) != 1 || diags[0].Line != 8 {
		t.Errorf("an unknown name is a fault, not %v", diags)
	}
}

func TestFilesShareNamesAndRoutes(t *testing.T) {
	spec := func(name, route string) SourceFile {
		body := strings.NewReplacer("\"a\"", "\""+name+"\"", "ingress", "route_prefix = \""+route+"\"\n  ingress", "%s", "").Replace(oneDeployment)
		return SourceFile{Name: name + route + ".hcl", Body: []byte("variable \"same\" {\ndefault = 1\n}\n" + body)}
	}
	accept(t, Source{Files: []SourceFile{spec("a", "/a"), spec("b", "/b")}})
	if _, diags := Parse(Source{Files: []SourceFile{spec("a", "/a"), spec("b", "/a")}}); len(diags) != 1 || diags[0].File != "b/a.hcl" {
		t.Errorf("the second route is a fault, not %v", diags)
	}
	if _, diags := Parse(Source{Files: []SourceFile{spec("a", "/a"), spec("a", "/b")}}); len(diags) != 1 {
		t.Errorf("the second name is a fault, not %v", diags)
	}
	if _, diags := Parse(Source{Files: []SourceFile{spec("a", "/a"), spec("a", "/a")}}); len(diags) == 0 {
		t.Error("a file given twice is a fault")
	}
	if file := accept(t, Source{}); len(file.Applications) != 0 {
		t.Error("no file names nothing")
	}
}

func TestRoutePrefixes(t *testing.T) {
	for prefix, good := range map[string]bool{
		"/": true, "/a": true, "/a/b-c_d.e~f": true, "/A1": true, "/a:b": true,
		"": false, "a": false, "/a/": false, "//": false, "/a//b": false, "/a/../b": false, "/.": false, "/a?b": false,
		"/a#b": false, "/a b": false, "/ä": false, "/%41": false, "/-/x": false, "/-": false, "/a\n": false,
		"/" + strings.Repeat("a", 2000): false,
	} {
		if got := routeProblem(prefix) == ""; got != good {
			t.Errorf("%.40q: accepted %v, want %v: %s", prefix, got, good, routeProblem(prefix))
		}
	}
}

func TestFormat(t *testing.T) {
	got, diags := Format("a.hcl", []byte("a{\nb=1\n  ccc   = [1,2]\n}\n"))
	if diags.HasErrors() || string(got) != "a {\n  b   = 1\n  ccc = [1, 2]\n}\n" {
		t.Errorf("%q, %v", got, diags)
	}
	if _, diags := Format("a.hcl", []byte("a {\n")); !diags.HasErrors() {
		t.Error("what does not parse is a fault")
	}
	if _, diags := Format("a.hcl", bytes.Repeat([]byte("("), 100000)); !diags.HasErrors() {
		t.Error("what is nested too deep is a fault")
	}
}

func TestTextForTerminals(t *testing.T) {
	in := Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte("x = 1 # \x1b[31m\n\tyyy = \"" + strings.Repeat("z", 5000) + "\"\n")}}}
	_, diags := Parse(in)
	for _, color := range []bool{false, true} {
		var text bytes.Buffer
		if err := diags.WriteText(&text, color, 80); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "\x1b[31m\n") || text.Len() > 2000 {
			t.Errorf("not fit for a terminal: %q", text.String())
		}
	}
	raw, err := json.Marshal(diags)
	if err != nil {
		t.Fatal(err)
	}
	var back Diagnostics
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(diags, back); diff != "" {
		t.Error(diff)
	}
}

func TestIngressOfOneDeployment(t *testing.T) {
	const deployment = `
  deployment %q {
    task {
      driver = "raw_exec"
    }
  }
`
	parse := func(names ...string) (*File, Diagnostics) {
		body := `application "shop" {`
		for _, name := range names {
			body += fmt.Sprintf(deployment, name)
		}
		return Parse(Source{Files: []SourceFile{{Name: "shop.hcl", Body: []byte(body + "}\n")}}})
	}
	file, diags := parse("till")
	if diags.HasErrors() || file.Applications[0].Ingress != "till" {
		t.Errorf("the only deployment is not the ingress: %v", diags)
	}
	if _, diags = parse("till", "store"); !diags.HasErrors() {
		t.Error("of two deployments one is taken by chance")
	}
}
