package appspec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/nomad/api"
)

// fields is a spec laid flat: a readable path to each value that is set, with
// the value as text. Two specs mean the same exactly when their fields are
// equal, whether they came from HCL or were read back from JSON: versions and
// differences are both made from it, so they cannot disagree.
type fields map[string]string

// maxFieldDepth is where laying flat stops and the rest is one JSON text. What
// Parse lets through is never so deep.
const maxFieldDepth = 100

func (f fields) set(path, value string) {
	if value != "" {
		f[path] = value
	}
}

// replicaFields is all that a replica's process depends on: when one of them
// changes, new replicas must take over.
func replicaFields(d *Deployment) fields {
	f := fields{}
	handles := slices.Clone(d.Handles)
	slices.Sort(handles)
	if handles = slices.Compact(handles); len(handles) > 0 {
		f["handles"] = jsonText(handles)
	}
	f.set("worker_group", d.WorkerGroup)
	f.set("node_pool", d.NodePool)
	f["resources.cpu"] = numberText(d.Resources.CPU)
	f["resources.memory"] = memoryText(d.Resources.MemoryMB)
	if d.Resources.GPU != 0 {
		f["resources.gpu"] = numberText(d.Resources.GPU)
	}
	if d.EffectiveProtocol() != ProtocolHTTP { // else the versions from before there was a choice stay
		f["protocol"] = d.Protocol
	}
	f.set("health_check.path", d.HealthCheck.Path)
	f.set("health_check.service", d.HealthCheck.Service)
	f["health_check.period"] = durationText(d.HealthCheck.Period.Std())
	f["health_check.timeout"] = durationText(d.HealthCheck.Timeout.Std())
	f["graceful_shutdown_timeout"] = durationText(d.GracefulShutdownTimeout.Std())
	if d.Task != nil {
		f.typed("task", reflect.ValueOf(withoutOurs(d.Task)))
	}
	if d.Reconfigure == nil {
		f.userConfig(d.UserConfig)
		return f
	}
	// The config reaches running replicas. How it does is part of their job.
	f.set("reconfigure.signal", d.Reconfigure.Signal)
	f.set("reconfigure.path", d.Reconfigure.Path)
	if d.Reconfigure.Signal == "" && d.Reconfigure.Path == "" {
		f["reconfigure"] = "{}"
	}
	return f
}

// withoutOurs is the task without what serve-nomad sets itself, so that it
// does not matter whether somebody has filled it in already.
func withoutOurs(t *api.Task) api.Task {
	task := *t
	task.Name, task.Resources = "", nil
	return task
}

// liveFields is what may change while the replicas go on.
func liveFields(d *Deployment) fields {
	f := fields{
		"max_ongoing_requests": strconv.Itoa(d.MaxOngoingRequests),
		"max_queued_requests":  strconv.Itoa(d.MaxQueuedRequests),
	}
	if d.PriorityHeaders {
		f["priority_headers"] = "true"
	}
	if d.Reconfigure != nil {
		f["reconfigure.timeout"] = durationText(d.Reconfigure.Within())
		f.userConfig(d.UserConfig)
	}
	a := d.Autoscaling
	if a == nil || d.FirstReplicas() != a.firstReplicas() { // else it only says what the block says
		f["num_replicas"] = strconv.Itoa(d.FirstReplicas())
	}
	if a != nil {
		f.words("autoscaling", reflect.ValueOf(a.complete()))
	}
	return f
}

func (f fields) userConfig(raw json.RawMessage) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		f["user_config"] = string(raw)
		return
	}
	f.value("user_config", v, 0)
}

// value lays flat what JSON or a driver's config can hold. Here an empty list
// or null was written on purpose, so it counts.
func (f fields) value(path string, v any, depth int) {
	if depth > maxFieldDepth {
		f[path] = jsonText(v)
		return
	}
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Map:
		if rv.Len() == 0 {
			f[path] = "{}"
			return
		}
		for it := rv.MapRange(); it.Next(); {
			f.value(join(path, fmt.Sprint(it.Key().Interface())), it.Value().Interface(), depth+1)
		}
	case reflect.Slice:
		if !hasMaps(rv) {
			f[path] = jsonText(plain(v))
			return
		}
		for i := range rv.Len() {
			f.value(fmt.Sprintf("%s[%d]", path, i), rv.Index(i).Interface(), depth+1)
		}
	default:
		f[path] = scalarText(v)
	}
}

// typed lays a Nomad type flat by its hcl tags. Zero means not set, except
// behind a pointer.
func (f fields) typed(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		if isScalar(v.Elem().Kind()) {
			f[path] = scalarText(v.Elem().Interface())
			return
		}
		f.block(path, v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			f.value(path, v.Elem().Interface(), 0)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				f.typed(join(path, hclName(field)), v.Field(i))
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			f.entry(join(path, it.Key().String()), it.Value())
		}
	case reflect.Slice:
		f.list(path, v)
	default:
		if isScalar(v.Kind()) && !v.IsZero() {
			f[path] = scalarText(v.Interface())
		}
	}
}

// entry is a map's value, which counts even when it is zero: it was written.
func (f fields) entry(path string, v reflect.Value) {
	switch {
	case isScalar(v.Kind()):
		f[path] = scalarText(v.Interface())
	case v.Kind() == reflect.Interface && v.IsNil():
		f[path] = "null"
	default:
		f.typed(path, v)
	}
}

func (f fields) list(path string, v reflect.Value) {
	if v.Len() == 0 {
		return
	}
	if isScalar(v.Type().Elem().Kind()) {
		f[path] = jsonText(plain(v.Interface()))
		return
	}
	for i := range v.Len() {
		f.block(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
	}
}

// block lays a block flat that is there, even if there is nothing in it.
func (f fields) block(path string, v reflect.Value) {
	before := len(f)
	if f.typed(path, v); len(f) == before {
		f[path] = "{}"
	}
}

func isScalar(k reflect.Kind) bool {
	return k == reflect.String || k == reflect.Bool || (k >= reflect.Int && k <= reflect.Float64)
}

func hasMaps(list reflect.Value) bool {
	for i := range list.Len() {
		v := list.Index(i)
		if v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() == reflect.Map || (v.Kind() == reflect.Slice && hasMaps(v)) {
			return true
		}
	}
	return false
}

// plain turns a list of scalars into one whose JSON does not depend on the Go
// types of its numbers.
func plain(v any) any {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice {
		if s, ok := v.(string); ok {
			return s
		}
		return json.RawMessage(scalarText(v))
	}
	out := make([]any, rv.Len())
	for i := range rv.Len() {
		out[i] = plain(rv.Index(i).Interface())
	}
	return out
}

// scalarText writes one value so that no two that differ look alike: a string
// that could be read as something else is quoted.
func scalarText(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return stringText(v)
	case json.Number:
		return numberLiteral(v)
	case time.Duration:
		return durationText(v)
	case Duration:
		return durationText(v.Std())
	}
	rv := reflect.ValueOf(v)
	switch {
	case rv.Kind() == reflect.Bool:
		return strconv.FormatBool(rv.Bool())
	case rv.CanInt():
		return numberLiteral(json.Number(strconv.FormatInt(rv.Int(), 10)))
	case rv.CanUint():
		return strconv.FormatUint(rv.Uint(), 10)
	case rv.CanFloat():
		return numberText(rv.Float())
	case rv.Kind() == reflect.String:
		return stringText(rv.String())
	default:
		return jsonText(v)
	}
}

func stringText(s string) string {
	if s == "" || strings.ContainsAny(s[:1], "\"[{(") || json.Valid([]byte(s)) {
		return strconv.Quote(s)
	}
	return s
}

func numberText(x float64) string {
	if math.Trunc(x) == x && math.Abs(x) < 1<<53 {
		return strconv.FormatInt(int64(x), 10)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

// numberLiteral writes a number that JSON will carry: beyond 2^53 as the
// float64 that it becomes there.
func numberLiteral(n json.Number) string {
	if i, err := n.Int64(); err == nil && i > -(1<<53) && i < 1<<53 {
		return strconv.FormatInt(i, 10)
	}
	x, err := n.Float64()
	if err != nil {
		return n.String()
	}
	return numberText(x)
}

// durationText is "1m30s" and "2h", where Go writes "2h0m0s".
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func memoryText(mb int) string {
	if mb != 0 && mb%1024 == 0 {
		return strconv.Itoa(mb/1024) + "GiB"
	}
	return strconv.Itoa(mb) + "MiB"
}

func jsonText(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprintf("%v", v)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// join adds a name to a path, in quotes when it would not read as one name.
func join(path, name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return path + "[" + strconv.Quote(name) + "]"
	}
	return path + "." + name
}

// hclName is what a field of a Nomad type is called in HCL.
func hclName(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("hcl"), ",")
	if name != "" {
		return name
	}
	var b strings.Builder
	for i, r := range field.Name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
