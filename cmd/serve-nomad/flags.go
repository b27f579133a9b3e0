package main

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/serve-nomad/serve-nomad/appspec"
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
	var known []string
	flags.VisitAll(func(f *flag.Flag) {
		if len(f.Name) > 1 {
			known = append(known, f.Name)
		}
	})
	return appspec.Nearest(name, known)
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
