package appspec

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Change is one field that differs between two specs of an application or of a
// worker group.
type Change struct {
	Path   string `json:"path"` // "deployment.ranker.resources.cpu"
	Old    string `json:"old"`  // "" when it was not there
	New    string `json:"new"`  // "" when it is no longer there
	Effect Effect `json:"effect"`
}

// Effect is what a change does to what runs.
type Effect string

// The effects of a change.
const (
	EffectLive    Effect = "live"    // applied at once, no replica restarted
	EffectReplace Effect = "replace" // new replicas take over from the old ones
	EffectNodes   Effect = "nodes"   // only new nodes have it
)

// Sensitive stands for a value whose name says that it is a secret.
const Sensitive = "(sensitive)"

// maxShown is the longest value that a Change shows whole, in bytes.
const maxShown = 512

// Diff says by field what differs between two specs of one application, sorted
// by path. With before nil everything is new, with after nil everything goes. A
// deployment that comes or goes is listed field by field, all of them with
// EffectReplace; otherwise a field has EffectReplace exactly when VersionOf
// depends on it.
func Diff(before, after *Application) []Change {
	changes := differences(layOut(before), layOut(after))
	for i := range changes {
		name, ok := deploymentOf(changes[i].Path)
		if ok && (!has(before, name) || !has(after, name)) {
			changes[i].Effect = EffectReplace
		}
	}
	return changes
}

// DiffWorkerGroup says by field what differs between two specs of one worker
// group, sorted by path, such as "node.memory" and "schedule.day.cron". With
// before nil everything is new, with after nil everything goes, all of it with
// EffectNodes; otherwise a field has EffectNodes if only new nodes can have it.
func DiffWorkerGroup(before, after *WorkerGroup) []Change {
	lay := func(g *WorkerGroup) map[string]laidField {
		out := map[string]laidField{}
		for path, text := range groupFields(g) {
			effect := EffectLive
			if before == nil || after == nil || needsNewNodes(path) {
				effect = EffectNodes
			}
			out[path] = laidField{text, effect}
		}
		return out
	}
	return differences(lay(before), lay(after))
}

// differences is what differs, sorted by path.
func differences(was, is map[string]laidField) []Change {
	changes := []Change{}
	for path, field := range was {
		if now, kept := is[path]; !kept || now.text != field.text {
			changes = append(changes, change(path, field, now))
		}
	}
	for path, field := range is {
		if _, known := was[path]; !known {
			changes = append(changes, change(path, laidField{}, field))
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return changes
}

type laidField struct {
	text   string
	effect Effect
}

// layOut is an application laid flat, each field with what its change does.
func layOut(app *Application) map[string]laidField {
	out := map[string]laidField{}
	if app == nil {
		return out
	}
	add := func(prefix string, f fields, effect Effect) {
		for path, text := range f {
			out[prefix+path] = laidField{text, effect}
		}
	}
	own := fields{}
	own.set("route_prefix", app.RoutePrefix)
	own.set("ingress", app.Ingress)
	if app.RequestTimeout != 0 {
		own["request_timeout"] = durationText(app.RequestTimeout.Std())
	}
	if app.MaxBodyBytes != 0 {
		own["max_body_bytes"] = strconv.FormatInt(app.MaxBodyBytes, 10)
	}
	if app.Rollout != nil {
		own.words("rollout", reflect.ValueOf(app.Rollout))
	}
	add("", own, EffectLive)
	// The name is part of every deployment's version.
	add("", fields{"name": app.Name}, EffectReplace)
	for _, d := range app.Deployments {
		if d == nil {
			continue
		}
		prefix := "deployment." + d.Name + "."
		add(prefix, replicaFields(d), EffectReplace)
		add(prefix, liveFields(d), EffectLive)
	}
	return out
}

func change(path string, was, is laidField) Change {
	effect := cmp.Or(is.effect, was.effect)
	if isSensitive(path) {
		return Change{Path: path, Old: mask(was.text), New: mask(is.text), Effect: effect}
	}
	return Change{Path: path, Old: shorten(was.text), New: shorten(is.text), Effect: effect}
}

// isSensitive tells by its name whether a value is a secret: one in the
// environment or the driver's config of a task, in the environment of a worker
// group, or in the config of its target.
func isSensitive(path string) bool {
	name, found := strings.CutPrefix(path, "env")
	for _, part := range []string{".task.env", ".task.config", ".target.config"} {
		if !found {
			_, name, found = strings.Cut("."+path, part)
		}
	}
	name = strings.ToUpper(name)
	return found && slices.ContainsFunc([]string{"TOKEN", "SECRET", "PASSWORD", "KEY"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

func mask(text string) string {
	if text == "" {
		return ""
	}
	return Sensitive
}

// shorten keeps the start of a long value, and a hash so that two long values
// which differ further on do not look alike.
func shorten(text string) string {
	if len(text) <= maxShown {
		return text
	}
	head := text[:200]
	for len(head) > 0 && !utf8.ValidString(head) {
		head = head[:len(head)-1]
	}
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%s... (%d bytes, sha256 %s)", head, len(text), hex.EncodeToString(sum[:4]))
}

func deploymentOf(path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, "deployment.")
	if !ok {
		return "", false
	}
	name, _, ok := strings.Cut(rest, ".")
	return name, ok
}

func has(app *Application, deployment string) bool {
	if app == nil {
		return false
	}
	return slices.ContainsFunc(app.Deployments, func(d *Deployment) bool {
		return d != nil && d.Name == deployment
	})
}
