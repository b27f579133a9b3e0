package appspec

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The limits are asserted generously: a limit that does not hold takes minutes
// and gigabytes, or ends the process.
const (
	patience = 10 * time.Second
	appetite = 1 << 30
)

// refuse parses what must be refused, and returns the first reason.
func refuse(t *testing.T, src string) (summary string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	_, diags := Parse(Source{Files: []SourceFile{{Name: "bomb.hcl", Body: []byte(src)}}})
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if !diags.HasErrors() {
		t.Fatalf("accepted %.80q", src)
	}
	if took > patience {
		t.Errorf("took %s to refuse %.80q", took, src)
	}
	allocated := after.TotalAlloc - before.TotalAlloc
	if allocated > appetite {
		t.Errorf("allocated %d MiB to refuse %.80q", allocated>>20, src)
	}
	t.Logf("%8s %6d KiB: %.60q -> %.100s", took.Round(100*time.Microsecond), allocated>>10, src, diags.Error())
	return diags[0].Summary
}

// leaveToPlainRun skips a test of time and memory under the race detector,
// which distorts both; make unit runs this package without it too.
func leaveToPlainRun(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("measured in the run without the race detector")
	}
}

func TestNestingIsRefusedBeforeTheParser(t *testing.T) {
	leaveToPlainRun(t)
	// The largest ones have too many tokens; smaller ones have to be counted.
	sizes := []int{MaxFileSize - 100, 60_000, 6_000}
	pairs := []struct{ open, close string }{
		{"(", ")"},
		{"[", "]"},
		{"{", "}"},
		{"{a=", "}"},
		{"[{a=", "}]"},
		{`"${`, `}"`},
		{`"%{if true}`, `%{endif}"`},
		{"!", ""},
		{"-", ""},
		{"! ", ""},
		{"-!", ""},
		{"!(", ")"},
		{"-[", "]"},
		{"f(", ")"},
		{"a[", "]"},
		{"true?", ":1"},
		{"true?1:", ""},
		{"1+", ""},
		{"1+(", ")"},
		{"a||", ""},
		{"{for k,v in ", ":k=>v}"},
		{"[for v in ", ":v]"},
		{"1+\n", ""},
		{"/**/!", ""},
		{"1+/**/", ""},
		{"a[*]", ""},
		{"a[b]", ""},
		{"a.*", ""},
		{"a.b", ""},
		{"a[0].b[c]", ""},
		{"x::", ""},
		{"<<E\n${", "}\nE\n"},
		{"%{if a}", "%{endif}"},
		{"(]", ""},
		{"([", "])"},
		{`"${"`, `"}"`},
		{"{\n", "}\n"},
		{"b {\n", "}\n"},
	}
	around := []struct{ name, before, after string }{
		{"value", "x = ", "\n"},
		{"in parentheses", "x = (", ")\n"},
		{"for with line ends", "x = {\nfor a in ", "}\n"},
		{"block", "b {\nx = ", "\n}\n"},
		{"heredoc", "x = <<EOT\n${", "}\nEOT\n"},
		{"template", `x = "${`, "}\"\n"},
		{"bare", "", ""},
	}
	for _, pair := range pairs {
		for i, a := range around {
			for _, size := range sizes {
				if i > 0 && size != sizes[2] {
					continue
				}
				n := size / len(pair.open)
				refuse(t, a.before+strings.Repeat(pair.open, n)+"1"+a.after)
				n = size / len(pair.open+pair.close)
				refuse(t, a.before+strings.Repeat(pair.open, n)+"1"+strings.Repeat(pair.close, n)+a.after)
			}
		}
	}
}

func TestNestingIsCountedExactly(t *testing.T) {
	nested := func(n int) string {
		return "locals {\nx = " + strings.Repeat("[", n) + strings.Repeat("]", n) + "\n}\n"
	}
	if _, diags := Parse(Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(nested(maxNesting - 1))}}}); diags.HasErrors() {
		t.Errorf("refused what is within the limit: %s", diags.Error())
	}
	if summary := refuse(t, nested(maxNesting)); summary != "Nested too deep" {
		t.Errorf("refused for another reason: %s", summary)
	}
	harmless := []string{
		`locals { x = "` + strings.Repeat("(", 500) + `" }`,
		"# " + strings.Repeat("[{(!", 200) + "\n",
		"/* " + strings.Repeat("((", 200) + " */",
		"locals {\nx = <<E\n" + strings.Repeat("{{ (", 200) + "\nE\n}",
		"locals {\nx = " + strings.Repeat("1 + ", 500) + "1\n}",
		"locals {\nx = \"" + strings.Repeat("${1}", 2000) + "\"\n}",
		"locals {\nx = [" + strings.Repeat("[1],", 5000) + "]\n}",
		"locals {\nx = <<E\n" + strings.Repeat("%{if true}a%{endif}\n", 500) + "E\n}",
	}
	for _, src := range harmless {
		if _, diags := Parse(Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(src)}}}); diags.HasErrors() {
			t.Errorf("refused %.60q: %s", src, diags.Error())
		}
	}
}

func TestEvaluationBombsAreRefused(t *testing.T) {
	leaveToPlainRun(t)
	hundred := "[" + strings.Repeat("1,", 100) + "]"
	doubling := func(format string) string {
		var b strings.Builder
		b.WriteString("locals {\nl0 = \"0123456789\"\n")
		for i := 1; i <= 40; i++ {
			fmt.Fprintf(&b, "l%d = "+format+"\n", i, i-1, i-1)
		}
		return b.String() + "}\n"
	}
	local := func(expr string) string {
		return "locals {\nn = " + hundred + "\ns = \"" + strings.Repeat("x", 1000) + "\"\nx = " + expr + "\n}\n"
	}
	bombs := map[string]string{
		"a loop of 100^4":            local("[for a in local.n : [for b in local.n : [for c in local.n : [for d in local.n : 1]]]]"),
		"a loop of 200^3":            local("[for a in concat(local.n, local.n) : [for b in concat(local.n, local.n) : [for c in concat(local.n, local.n) : 1]]]"),
		"a loop with a condition":    local("[for a in local.n : 1 if length([for b in local.n : 1 if length([for c in local.n : [for d in local.n : d]]) > 0]) > 0]"),
		"an object of loops":         local(`{for a in range(1000) : "k${a}" => [for b in range(1000) : [for c in range(100) : b]]}`),
		"a template loop":            local(`"%{for a in range(1000)}%{for b in range(1000)}%{for c in range(1000)}x%{endfor}%{endfor}%{endfor}"`),
		"a splat of splats":          local("[for x in range(1000) : range(1000)][*][*]"),
		"joins that double":          doubling(`join("", [local.l%d, local.l%d])`),
		"templates that double":      doubling(`"${local.l%d}${local.l%d}"`),
		"lists that double":          doubling(`[local.l%d, local.l%d]`),
		"objects that double":        doubling(`{a = local.l%d, b = local.l%d}`),
		"concats that double":        doubling(`concat(flatten([local.l%d]), flatten([local.l%d]))`),
		"formats that double":        doubling(`format("%%s%%s", local.l%d, local.l%d)`),
		"conditionals that double":   doubling(`true ? [local.l%d, local.l%d] : []`),
		"json that doubles":          doubling(`jsonencode([local.l%d, local.l%d])`),
		"a wide format":              local(`format("%1000000000s", "x")`),
		"a precise format":           local(`format("%.1000000000f", 1)`),
		"a wide format by argument":  local(`format("%*s", 1000000000, "x")`),
		"a format that repeats":      local(`format("` + strings.Repeat("%[1]s", 10000) + `", join("", [for n in local.n : local.s]))`),
		"a wide formatlist":          local(`formatlist("%1000000000s", ["x"])`),
		"an enormous number":         local("1e999999999"),
		"an enormous number printed": local(`"${1e999999999}"`),
		"an enormous number as text": local(`format("%d", "1e999999999")`),
		"an enormous number as key":  local(`{a = 1}[1e999999999]`),
		"a number from text":         local(`"1e999999999" + 0`),
		"a product of numbers":       local(strings.Repeat("1e300 * ", 20) + "1"),
		"a long number":              local(strings.Repeat("9", 500000)),
		"a long number as text":      local(`"` + strings.Repeat("9", 500000) + `" + 1`),
		"a long number to abs":       local(`abs("` + strings.Repeat("9", 500000) + `")`),
		"parseint":                   local(`parseint("` + strings.Repeat("9", 500000) + `", 10)`),
		"pow":                        local("pow(10, 1000000000)"),
		"indent":                     local(`indent(1000000000, "a\nb")`),
		"indent of many lines":       local(`indent(1000, join("\n", range(1000)...))`),
		"replace":                    local(`replace(join("", [for n in local.n : local.s]), "", join("", [for n in local.n : local.s]))`),
		"replace by a pattern":       local(`replace(local.s, "/x*/", local.s)`),
		"setproduct":                 local("setproduct(local.n, local.n, local.n, local.n, local.n)"),
		"distinct":                   local("distinct([for n in range(1000) : distinct([for m in range(1000) : {(\"k${m}\") = n}])])"),
		"unlike types":               local(`flatten([for n in range(1000) : {"k${n}" = n}])`),
		"unlike types in a function": local(`coalesce([for n in range(1000) : {"k${n}" = n}], [for n in range(1000) : {"j${n}" = n}])`),
		"unlike types in a choice":   local(`true ? [for n in range(1000) : {"k${n}" = n}] : [for n in range(1000) : {"j${n}" = [n]}]`),
		"bcrypt":                     local(`bcrypt("x", 31)`),
		"regex_replace":              local(`regex_replace("x", "((((a{30}){30}){30}){30})", "y")`),
		"jsondecode":                 local(`jsondecode("` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `")`),
		"yamldecode":                 local(`yamldecode("a: &a [x]")`),
		"try around a bomb":          local("try([for a in local.n : [for b in local.n : [for c in local.n : [for d in local.n : 1]]]], 1)"),
		"nested try":                 local(strings.Repeat("try(", 40) + "nothing" + strings.Repeat(")", 40)),
		"labels of loops":            "worker_group \"g\" {\nlabels = {for a in range(1000) : \"k${a}\" => join(\"\", [for b in range(1000) : \"${b}\"])}\n}\n",
		"an enormous label":          "worker_group \"g\" {\nlabels = {a = 1e999999999}\n}\n",
		"a command of loops":         "worker_group \"g\" {\ntarget \"exec\" {\ncommand = flatten([for a in range(1000) : [for b in range(1000) : [for c in range(1000) : \"x\"]]])\n}\n}\n",
		"many worker groups":         manyLines("worker_group \"g%d\" {\n}\n", 30000),
		"many prefetches":            "worker_group \"g\" {\n" + manyLines("prefetch \"p%d\" {\ntask {\ndriver = \"exec\"\n}\n}\n", 15000) + "}\n",
		"many locals":                "locals {\n" + manyLines("l%d = 1\n", 30000) + "}\n",
		"many variables":             manyLines("variable \"v%d\" {\ndefault = 1\n}\n", 20000),
		"a deep value":               deepLocals(200),
		"a variable default":         "variable \"x\" {\ndefault = [for a in [" + strings.Repeat("1,", 1000) + "] : [for b in [" + strings.Repeat("1,", 1000) + "] : [for c in [" + strings.Repeat("1,", 1000) + "] : 1]]]\n}\n",
		"a validation":               "variable \"x\" {\ndefault = 1\nvalidation {\ncondition = [for a in range(1000) : [for b in range(1000) : [for c in range(1000) : var.x]]] == 1\nerror_message = \"no\"\n}\n}\n",
		"many faults":                manyLines("x%d = 1\n", 60000),
		"many syntax errors":         strings.Repeat("=\n", 90000),
		"many strange characters":    strings.Repeat("\u00a7", 500000),
	}
	for name, src := range bombs {
		t.Run(name, func(t *testing.T) { refuse(t, src) })
	}
}

func manyLines(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func deepLocals(n int) string {
	return "locals {\nl0 = []\n" + func() string {
		var b strings.Builder
		for i := 1; i < n; i++ {
			fmt.Fprintf(&b, "l%d = [local.l%d]\n", i, i-1)
		}
		return b.String()
	}() + "}\n"
}

func TestTaskBombsAreRefused(t *testing.T) {
	leaveToPlainRun(t)
	task := func(body string) string {
		return "application \"a\" {\ningress = deployment.d\ndeployment \"d\" {\ntask {\ndriver = \"exec\"\n" + body + "\n}\n}\n}\n"
	}
	bombs := map[string]string{
		"config":         task("config {\nx = [for a in range(1000) : [for b in range(1000) : [for c in range(1000) : 1]]]\n}"),
		"dynamic":        task("dynamic \"template\" {\nfor_each = range(1000)\ncontent {\ndata = join(\"\", [for a in range(1000) : template.value])\n}\n}"),
		"nested dynamic": task("dynamic \"a\" {\nfor_each = range(1000)\ncontent {\ndynamic \"b\" {\nfor_each = range(1000)\ncontent {\ndynamic \"c\" {\nfor_each = range(1000)\ncontent {\n}\n}\n}\n}\n}\n}"),
		"braces after a name that Nomad fills in": task("foo = \"${attr.x}" + strings.Repeat("}", 500000) + "\""),
		"many unknown attributes":                 task(manyLines("x%d = 1\n", 50000)),
		"many wrong values":                       task("env {\n" + manyLines("x%d = []\n", 20000) + "}"),
	}
	for name, src := range bombs {
		t.Run(name, func(t *testing.T) { refuse(t, src) })
	}
}

func TestWhatIsNoSpecText(t *testing.T) {
	for name, src := range map[string]string{
		"too large":     strings.Repeat("#\n", MaxFileSize/2+1),
		"far too large": strings.Repeat("#", 100<<20),
		"NUL":           "locals {\n\x00}",
		"invalid UTF-8": "# \xff\n",
	} {
		t.Run(name, func(t *testing.T) { refuse(t, src) })
	}
	for name, src := range map[string]string{
		"empty":            "",
		"one byte":         "\n",
		"byte order mark":  "\ufefflocals {\n}\n",
		"Windows' lines":   "locals {\r\n  a = 1\r\n}\r\n",
		"as large as goes": strings.Repeat("# comment comment\n", MaxFileSize/18),
	} {
		t.Run(name, func(t *testing.T) {
			if _, diags := Parse(Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(src)}}}); diags.HasErrors() {
				t.Errorf("refused: %s", diags.Error())
			}
		})
	}
}
