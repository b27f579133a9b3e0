package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

func quote(s string) string { return strconv.Quote(s) }

// shellWord quotes s for a shell, if it needs that.
func shellWord(s string) string {
	special := func(r rune) bool {
		return !strings.ContainsRune("-_./=:,+@%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// indent puts prefix before each line that is not empty.
func indent(text, prefix string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = prefix + line
		}
	}
	return strings.Join(lines, "\n")
}

// wrap breaks text at spaces so that no line is longer than width.
func wrap(text string, width int) string {
	var out strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			out.WriteByte('\n')
			column = 0
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += len(word)
	}
	return out.String()
}

// table lines up columns. A column that is empty in every row is left out.
func table(header []string, rows [][]string) string {
	used := make([]bool, len(header))
	for _, row := range rows {
		for i, cell := range row {
			used[i] = used[i] || cell != ""
		}
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(cells []string) {
		var kept []string
		for i, cell := range cells {
			if used[i] {
				kept = append(kept, printable(cell))
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(kept, "\t")) // a strings.Builder takes everything
	}
	line(header)
	for _, row := range rows {
		line(row)
	}
	_ = w.Flush() // the same
	lines := strings.Split(out.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// pairs lines up "name = value" lines as Nomad does; empty values are left out.
func pairs(list [][2]string) string {
	width := 0
	for _, p := range list {
		width = max(width, len(p[0]))
	}
	var out strings.Builder
	for _, p := range list {
		if p[1] != "" {
			fmt.Fprintf(&out, "%-*s = %s\n", width, p[0], printable(p[1]))
		}
	}
	return out.String()
}

// printable takes out what could move a terminal's cursor or change its
// colours: some of what is printed was written by replicas.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0):
			return -1
		default:
			return r
		}
	}, s)
}

// ago says how long a moment lies back.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return humanize.RelTime(t, now, "ago", "from now")
}

// brief writes a duration as people say it.
func brief(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// plural writes "1 replica" and "2 replicas".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// short shortens an id as Nomad's own tools do.
func short(id string) string { return id[:min(8, len(id))] }
