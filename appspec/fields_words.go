package appspec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// words lays one of our own types flat by its JSON names, which are the HCL's
// but for amounts of memory: memory_mb is memory there.
func (f fields) words(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if task, ok := reflect.TypeAssert[*api.Task](v); ok && task != nil {
			f.block(path, reflect.ValueOf(withoutOurs(task)))
		} else if !v.IsNil() {
			f.words(path, v.Elem())
		}
	case reflect.Struct:
		before := len(f)
		for i := range v.NumField() {
			name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if options == "omitempty" && v.Field(i).IsZero() {
				continue
			}
			if memory, ok := strings.CutSuffix(name, "_mb"); ok {
				f[join(path, memory)] = memoryText(int(v.Field(i).Int()))
			} else {
				f.words(join(path, name), v.Field(i))
			}
		}
		if len(f) == before { // a block that is there, with nothing in it
			f[path] = "{}"
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			f.entry(join(path, it.Key().String()), it.Value())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Pointer {
			f.named(path, v)
			return
		}
		f.list(path, v)
	default:
		f[path] = scalarText(v.Interface())
	}
}

// named lays blocks with labels flat by their names, so that one which comes or
// goes does not look like a change of those after it.
func (f fields) named(path string, list reflect.Value) {
	seen := map[string]bool{}
	for i := range list.Len() {
		block := list.Index(i)
		if block.IsNil() {
			f[fmt.Sprintf("%s[%d]", path, i)] = "null"
			continue
		}
		name := block.Elem().FieldByName("Name").String()
		if seen[name] { // not sound, but not the same as without it
			f.words(fmt.Sprintf("%s[%d]", path, i), block)
			continue
		}
		seen[name] = true
		at := join(path, name)
		f.words(at, block)
		delete(f, at+".name")
	}
}

// groupFields is all of a worker group but its name, with defaults for what is
// absent.
func groupFields(g *WorkerGroup) fields {
	f := fields{}
	if g == nil {
		return f
	}
	g = g.complete()
	g.ScaleDown = new(g.EffectiveScaleDown())
	g.Node.Drivers = slices.Compact(slices.Sorted(slices.Values(g.Node.Drivers)))
	of := reflect.ValueOf(*g)
	for i := range of.NumField() {
		name, options, _ := strings.Cut(of.Type().Field(i).Tag.Get("json"), ",")
		if name != "name" && (options != "omitempty" || !of.Field(i).IsZero()) {
			f.words(name, of.Field(i))
		}
	}
	return f
}

// needsNewNodes says whether only new nodes can have a field of a worker group.
func needsNewNodes(path string) bool {
	return slices.Contains([]string{"node_pool", "node", "labels", "env", "spot"}, topField(path)) ||
		path == "target.kind" || path == "target.plugin"
}

// identifies says whether a field of a worker group tells its nodes from others,
// or who makes and removes them.
func identifies(path string) bool {
	return slices.Contains([]string{"node_pool", "node.class", "target.kind", "target.plugin"}, path)
}

// topField is the field or block of a worker group that a path begins with.
func topField(path string) string {
	return path[:len(path)-len(strings.TrimLeft(path, "abcdefghijklmnopqrstuvwxyz_"))]
}
