package appspec

import (
	"fmt"
	"reflect"
	"strings"
)

// words lays one of our own types flat by its JSON names, which are the HCL's.
func (f fields) words(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			f.words(path, v.Elem())
		}
	case reflect.Struct:
		before := len(f)
		for i := range v.NumField() {
			name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if options != "omitempty" || !v.Field(i).IsZero() {
				f.words(join(path, name), v.Field(i))
			}
		}
		if len(f) == before { // a block that is there, with nothing in it
			f[path] = "{}"
		}
	case reflect.Slice:
		if schedules, ok := reflect.TypeAssert[[]*Schedule](v); ok {
			f.schedules(path, schedules)
			return
		}
		f.list(path, v)
	default:
		f[path] = scalarText(v.Interface())
	}
}

// schedules lays schedules flat by their names, so that one which comes or goes
// does not look like a change of those after it.
func (f fields) schedules(path string, list []*Schedule) {
	seen := map[string]bool{}
	for i, s := range list {
		switch {
		case s == nil:
			f[fmt.Sprintf("%s[%d]", path, i)] = "null"
		case seen[s.Name]: // not sound, but not the same as without it
			f.words(fmt.Sprintf("%s[%d]", path, i), reflect.ValueOf(s))
		default:
			seen[s.Name] = true
			at := join(path, s.Name)
			f.words(at, reflect.ValueOf(s))
			delete(f, at+".name")
		}
	}
}
