package appspec

import (
	"strings"
	"testing"
)

func TestTheNearestArgumentIsSuggested(t *testing.T) {
	for wrong, want := range map[string]string{
		"gpus":  `Did you mean "gpu"?`,
		"cpus":  `Did you mean "cpu"?`,
		"memry": `Did you mean "memory"?`,
		"zzz":   "is not expected here.",
	} {
		body := "application \"a\" {\n  deployment \"d\" {\n    resources {\n      " + wrong + " = 1\n    }\n    task {\n      driver = \"docker\"\n    }\n  }\n}\n"
		_, diags := Parse(Source{Files: []SourceFile{{Name: "a.hcl", Body: []byte(body)}}})
		if len(diags) != 1 || !strings.HasSuffix(diags[0].Detail, want) {
			t.Errorf("%s: %v, want one that ends with %q", wrong, diags, want)
		}
	}
}
