package main

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// The flag package gives its errors as text alone.
var (
	unknownFlag  = regexp.MustCompile(`^flag provided but not defined: -(.*)$`)
	badFlagValue = regexp.MustCompile(`^invalid (?:boolean )?value .* for (?:flag )?-([^ :]+): (?:parse error|value out of range)$`)
)

// negative is the number that the flag package took for a flag.
func negative(err error) (number string, ok bool) {
	if err == nil {
		return "", false
	}
	match := unknownFlag.FindStringSubmatch(err.Error())
	if match == nil || match[1] == "" || match[1][0] < '0' || match[1][0] > '9' {
		return "", false
	}
	return "-" + match[1], true
}

// flagFault says what would be right instead.
func flagFault(flags *flag.FlagSet, err error) error {
	text := err.Error()
	if match := unknownFlag.FindStringSubmatch(text); match != nil {
		name, _, _ := strings.Cut(match[1], "=")
		if near := nearestFlag(flags, name); near != "" {
			text = fmt.Sprintf("there is no flag -%s, did you mean -%s?", name, near)
		} else {
			text = fmt.Sprintf("there is no flag -%s", name)
		}
	}
	if match := badFlagValue.FindStringSubmatch(text); match != nil {
		if want := valueWanted(flags.Lookup(match[1])); want != "" {
			text = text[:strings.LastIndex(text, ":")] + ": want " + want
		}
	}
	return wrongUse("%s", text)
}

// valueWanted says what a flag takes.
func valueWanted(f *flag.Flag) string {
	if f == nil {
		return ""
	}
	value, ok := f.Value.(flag.Getter)
	if !ok {
		return ""
	}
	switch value.Get().(type) {
	case time.Duration:
		return "a duration such as 30s, 5m or 1h30m"
	case int:
		return "a whole number"
	case bool:
		return "true or false"
	default:
		return ""
	}
}

// nearestFlag returns the flag that differs from name by the fewest letters, when
// those are few, or "".
func nearestFlag(flags *flag.FlagSet, name string) string {
	best, least := "", max(1, len(name)/3)+1
	flags.VisitAll(func(f *flag.Flag) {
		if d := editDistance(name, f.Name); len(f.Name) > 1 && d < least {
			best, least = f.Name, d
		}
	})
	return best
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// defaultText is the end of a flag's description: what it is when it is not
// given. A description that says so itself, and what is off or empty, has none.
func defaultText(f *flag.Flag, about string) string {
	switch f.DefValue {
	case "", "0", "false":
		return ""
	}
	if strings.Contains(strings.ToLower(about), "default") && !strings.Contains(about, "When the default is taken") {
		return ""
	}
	value := f.DefValue
	if d, err := time.ParseDuration(value); err == nil {
		value = strings.TrimSuffix(d.String(), "m0s")
		if value != d.String() {
			value += "m"
		}
	}
	return " Default: " + value + "."
}
