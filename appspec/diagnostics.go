package appspec

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Severity says whether a diagnostic stops a deploy.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one thing to say about a spec's source, at its place. Lines
// and columns count from 1, columns in characters; all are 0 when the thing
// has no place, such as a -var that no file declares.
type Diagnostic struct {
	Severity  Severity `json:"severity"`
	Summary   string   `json:"summary"`
	Detail    string   `json:"detail,omitempty"`
	File      string   `json:"file,omitempty"`
	Line      int      `json:"line,omitempty"`
	Column    int      `json:"column,omitempty"`
	EndLine   int      `json:"end_line,omitempty"`
	EndColumn int      `json:"end_column,omitempty"` // the first column after it
	Context   string   `json:"context,omitempty"`    // the blocks around it: application "search"
	Snippet   string   `json:"snippet,omitempty"`    // the text of Line
}

// Error says the diagnostic in one line, with its place.
func (d Diagnostic) Error() string {
	text := d.Summary
	if d.Detail != "" {
		text += ": " + strings.Join(strings.Fields(d.Detail), " ")
	}
	if d.File == "" {
		return printable(text)
	}
	return printable(fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, text))
}

// Diagnostics is all that there is to say about a spec, in the source's order.
type Diagnostics []Diagnostic

// HasErrors says whether any of them stops a deploy.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Error says them all, one a line.
func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.Error()
	}
	return strings.Join(lines, "\n")
}

const (
	// maxDiagnostics is how many faults are worth a person's while at once.
	maxDiagnostics = 100
	maxSnippet     = 4096
	maxDetail      = 2000
)

// ofHCL turns hcl's diagnostics into ours, sorted, without repeats.
func ofHCL(from hcl.Diagnostics, files map[string]*hcl.File) Diagnostics {
	from = slices.Clone(from)
	slices.SortStableFunc(from, func(a, b *hcl.Diagnostic) int { return comparePlaces(place(a), place(b)) })
	var out Diagnostics
	for _, d := range from {
		next := ofOne(d, files)
		if len(out) > 0 && out[len(out)-1] == next {
			continue
		}
		if len(out) == maxDiagnostics {
			return append(out, Diagnostic{
				Severity: SeverityError,
				Summary:  "Too many faults",
				Detail:   fmt.Sprintf("Only the first %d are shown.", maxDiagnostics),
			})
		}
		out = append(out, next)
	}
	return out
}

func ofOne(d *hcl.Diagnostic, files map[string]*hcl.File) Diagnostic {
	out := Diagnostic{Severity: SeverityError, Summary: clipTo(d.Summary, 200), Detail: clipTo(d.Detail, maxDetail)}
	if d.Severity == hcl.DiagWarning {
		out.Severity = SeverityWarning
	}
	at := place(d)
	if at == nil {
		return out
	}
	out.File = at.Filename
	out.Line, out.Column = at.Start.Line, at.Start.Column
	out.EndLine, out.EndColumn = at.End.Line, at.End.Column
	file := files[at.Filename]
	if file == nil {
		return out
	}
	out.Context = clipTo(contextOf(file, at.Start.Byte), 300)
	out.Snippet = lineAt(file.Bytes, at.Start.Byte)
	return out
}

func place(d *hcl.Diagnostic) *hcl.Range {
	if d.Subject != nil {
		return d.Subject
	}
	return d.Context
}

func comparePlaces(a, b *hcl.Range) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Start.Byte, b.Start.Byte))
}

// lineAt returns the line of src that holds the offset, without its end.
func lineAt(src []byte, offset int) string {
	if offset < 0 || offset > len(src) {
		return ""
	}
	start := bytes.LastIndexByte(src[:offset], '\n') + 1
	end := len(src)
	if i := bytes.IndexByte(src[offset:], '\n'); i >= 0 {
		end = offset + i
	}
	line := strings.TrimSuffix(string(src[start:end]), "\r")
	return strings.TrimPrefix(clipTo(line, maxSnippet), "\ufeff")
}

func errorAt(at hcl.Range, summary, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(format, args...),
		Subject:  &at,
	}
}
