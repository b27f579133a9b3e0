package appspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTasksReadAsNomadReadsThem compares with Nomad's own parser on a job that
// holds the same task.
func TestTasksReadAsNomadReadsThem(t *testing.T) {
	const prelude = "variable \"image\" {\ndefault = \"x:1\"\n}\nvariable \"ports\" {\ntype = map(number)\ndefault = {a = 1, b = 2}\n}\nlocals {\nlist = [for k, v in var.ports : \"${k}=${v}\"]\nobject = {a = {b = [1, true, null]}}\n}\n"
	for name, body := range map[string]string{
		"strings":              `config { image = "${var.image}-${NOMAD_ALLOC_ID}" }`,
		"numbers":              "config {\na = 1\nb = 1.5\nc = -2\nd = 1e3\ne = 0.1 + 0.2\nf = 9007199254740991\n}",
		"literals":             "config {\na = true\nb = null\nc = []\nd = {}\ne = [1, \"a\", [true]]\n}",
		"objects":              "config {\na = {b = 1, \"c d\" = {e = [1]}}\nb = [{c = 1}, {d = 2}]\nc = [[{d = 1}]]\n}",
		"objects by value":     "config {\na = local.object\nb = merge({x = 1}, {y = 2})\nc = (true ? {z = 1} : {z = 2})\nd = ({w = 1})\n}",
		"blocks in config":     "config {\nmount {\ntype = \"bind\"\noption \"x\" \"y\" {\nz = 1\n}\n}\nmount {\ntype = \"tmpfs\"\n}\n}",
		"for and splat":        "config {\na = local.list\nb = {for k, v in var.ports : upper(k) => v}\nc = [{n = 1}, {n = 2}][*].n\n}",
		"environment":          "env {\nA = var.image\nB = 1\nC = true\n}",
		"environment as a map": "env = {\n\"a.b\" = \"c\"\nA = join(\",\", local.list)\n}",
		"meta":                 "meta {\nteam = \"x\"\n}",
		"templates":            "template {\ndata = <<-E\n    {{ key \"a\" }} $${x} %%{y} ${attr.cpu.arch}\n      b\n    E\ndestination = \"a\"\nsplay = \"3s\"\nwait {\nmin = \"1s\"\nmax = \"2s\"\n}\n}",
		"dynamic templates":    "dynamic \"template\" {\nfor_each = var.ports\ncontent {\ndata = \"${template.key} ${template.value}\"\ndestination = \"d/${template.key}\"\n}\n}",
		"nested dynamic":       "dynamic \"artifact\" {\nfor_each = [\"u1\", \"u2\"]\niterator = it\ncontent {\nsource = it.value\ndynamic \"options\" {\nfor_each = [it.key]\ncontent {\nn = options.value\n}\n}\n}\n}",
		"constraints":          "constraint {\nattribute = \"${attr.kernel.name}\"\nvalue = \"linux\"\n}\nconstraint {\ndistinct_hosts = true\n}\nconstraint {\nattribute = \"${meta.x}\"\nversion = \">= 1\"\n}\naffinity {\nattribute = \"${node.class}\"\nset_contains_any = \"a,b\"\nweight = -20\n}",
		"vault and consul":     "vault {\nrole = \"r\"\n}\nconsul {\nnamespace = \"n\"\n}\nidentity {\naud = [\"a\"]\nenv = true\n}\nidentity {\nname = \"x\"\nttl = \"1h\"\n}",
		"logs and restart":     "logs {\nmax_files = 2\n}\nrestart {\nattempts = 1\ninterval = \"5m\"\ndelay = \"1s\"\nmode = \"fail\"\n}\nuser = \"nobody\"\nkill_signal = \"SIGINT\"\nleader = true",
		"action and secret":    "action \"a\" {\ncommand = \"ls\"\nargs = [\"-l\"]\n}\nvolume_mount {\nvolume = \"v\"\ndestination = \"/v\"\n}\nsecret \"s\" {\nprovider = \"nomad\"\npath = \"p\"\n}",
		"text of all kinds":    `env { X = "é 日本 \" \\ \n \t 😀 { } ${"{"} $${ %%{ $ % $$ %% #" }`,
	} {
		t.Run(name, func(t *testing.T) {
			job, err := parseJob(prelude + "job \"j\" {\ngroup \"g\" {\ntask \"t\" {\ndriver = \"exec\"\n" + body + "\n}\n}\n}\n")
			if err != nil {
				t.Fatalf("Nomad's parser: %v", err)
			}
			want, err := asRead(job)
			if err != nil {
				t.Fatal(err)
			}
			in := source("", body)
			in.Files[0].Body = append([]byte(prelude), in.Files[0].Body...)
			got := accept(t, in).Applications[0].Deployments[0].Task
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-Nomad +serve-nomad):\n%s", diff)
			}
		})
	}
}

// TestTaskFaultsHaveTheirPlace holds the way from the job parser's text back
// to what the user wrote.
func TestTaskFaultsHaveTheirPlace(t *testing.T) {
	for body, want := range map[string]struct {
		line, column int
		summary      string
	}{
		"drivr = 1":                                      {7, 7, "Unsupported argument"},
		"env {\n  Ünïcode = [1]\n}":                      {8, 13, "Unsuitable value type"},
		"template {\n}\nfoo \"é\" {\n}":                  {9, 1, "Unsupported block type"},
		"template {\n  data = [\n    1,\n    2,\n  ]\n}": {8, 10, "Unsuitable value type"},
		"config {\n  a = {\n    b = nothing\n  }\n}":     {9, 9, "Unknown name"},
		"dynamic \"template\" {\n  for_each = [1]\n  content {\n    splay = \"x\"\n  }\n}": {10, 13, "Unsuitable value type"},
		"dynamic \"template\" {\n  for_each = 1\n  content {\n  }\n}":                      {8, 14, "Invalid for_each"},
		"dynamic \"service\" {\n  for_each = [1]\n  content {\n  }\n}":                     {7, 15, "Not for the task block"},
		"vault {\n  role = upper(1, 2)\n}":                                                 {8, 19, "Too many function arguments"},
		"vault {\n}\nvault {\n}":                                                           {9, 1, "Duplicate vault block"},
		"volume_mount {\n  volume = 1\n  bogus = 1\n}":                                     {9, 3, "Unsupported argument"},
		"action {\n}": {7, 7, "Missing name for action"},
		"config {\n  x = [{a = 1}, null]\n  y = concat([{a = 1}], [null])\n}\nrestart { delay = true }": {11, 19, "Unsuitable value type"},
	} {
		t.Run(body, func(t *testing.T) {
			_, diags := Parse(source("", body))
			for _, d := range diags {
				if d.Line == want.line && d.Column == want.column && d.Summary == want.summary {
					return
				}
			}
			t.Errorf("%+v is wanted, not:\n%s", want, diags.Error())
		})
	}
}
