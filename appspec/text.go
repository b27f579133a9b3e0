package appspec

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

const (
	bold      = "\x1b[1m"
	red       = "\x1b[31m"
	yellow    = "\x1b[33m"
	underline = "\x1b[4m"
	reset     = "\x1b[0m"
)

// WriteText writes the diagnostics for people, as HCL's own tools do: what is
// wrong, the line with the offending text underlined, and what would be right.
// Text is wrapped to width columns; 0 does not wrap. Control characters of the
// source do not reach w.
func (ds Diagnostics) WriteText(w io.Writer, color bool, width int) error {
	for _, d := range ds {
		if _, err := io.WriteString(w, d.text(color, width)); err != nil {
			return fmt.Errorf("write diagnostics: %w", err)
		}
	}
	return nil
}

func (d Diagnostic) text(color bool, width int) string {
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return code + text + reset
	}
	word, code := "Error", red
	if d.Severity == SeverityWarning {
		word, code = "Warning", yellow
	}
	var b strings.Builder
	b.WriteString(paint(bold+code, word+":") + " " + paint(bold, printable(d.Summary)) + "\n\n")
	if d.File != "" {
		fmt.Fprintf(&b, "  on %s line %d", printable(d.File), d.Line)
		if d.Context != "" {
			b.WriteString(", in " + printable(d.Context))
		}
		b.WriteString(":\n" + d.source(color) + "\n")
	}
	if d.Detail != "" {
		b.WriteString(wrap(printable(d.Detail), width) + "\n\n")
	}
	return b.String()
}

// source is the line with the offending part underlined.
func (d Diagnostic) source(color bool) string {
	if strings.TrimSpace(d.Snippet) == "" {
		return ""
	}
	before, marked, after := d.cut()
	margin := fmt.Sprintf("%4d: ", d.Line)
	if color {
		return margin + before + underline + marked + reset + after + "\n"
	}
	under := strings.Repeat(" ", len(margin)+len([]rune(before))) + strings.Repeat("^", max(1, len([]rune(marked))))
	return margin + before + marked + after + "\n" + under + "\n"
}

// cut splits the snippet around the offending part, and leaves away what is
// far from it on a long line.
func (d Diagnostic) cut() (before, marked, after string) {
	const around = 60
	line := []rune(d.Snippet)
	start := min(max(d.Column-1, 0), len(line))
	end := len(line)
	if d.EndLine == d.Line {
		end = min(max(d.EndColumn-1, start), len(line))
	}
	left, right := line[:start], line[end:]
	if len(left) > 2*around {
		left = append([]rune("..."), left[len(left)-around:]...)
	}
	if len(right) > 2*around {
		right = append(right[:around:around], []rune("...")...)
	}
	middle := line[start:end]
	if len(middle) > 3*around {
		middle = append(middle[:3*around:3*around], []rune("...")...)
	}
	show := func(part []rune) string {
		return printable(strings.ReplaceAll(string(part), "\t", "    "))
	}
	return show(left), show(middle), show(right)
}

// printable takes out what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || !unicode.IsControl(r) && !unicode.Is(unicode.Bidi_Control, r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// wrap breaks lines at spaces so that they fit into width columns. Lines that
// start with a space keep their form.
func wrap(text string, width int) string {
	if width <= 0 {
		return text
	}
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, " ") {
			out = append(out, line)
			continue
		}
		for len([]rune(line)) > width {
			runes := []rune(line)
			at := width
			for at > 0 && runes[at] != ' ' {
				at--
			}
			if at == 0 {
				break
			}
			out = append(out, string(runes[:at]))
			line = string(runes[at+1:])
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
