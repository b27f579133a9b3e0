package appspec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The limits of a worker group.
const (
	maxWorkerGroups = 1000
	maxNodes        = 10_000
	maxPriority     = 1_000_000
	maxPrice        = 1e6
	maxCoreMHz      = 100_000
	maxIdle         = 31 * 24 * time.Hour
	minNodeTimeout  = time.Second
	maxEntries      = 100 // of labels, env, attributes, config, drivers and words of a command, each
	maxEntry        = 128 // bytes of a name
	maxValue        = 4096
	maxPrefetches   = 20
)

func (v *validator) workerGroup(g *WorkerGroup) {
	if g == nil {
		v.addf("worker_group", "There is no worker group.")
		return
	}
	path := workerGroupPath(g.Name)
	sound := len(v.faults)
	v.name(path, "worker group", g.Name)
	if len(v.faults) == sound || g.NodePool != g.Name { // else it is the name's fault
		v.pool(path+".node_pool", g.NodePool)
	}
	v.within(path+".min_nodes", g.MinNodes, 0, maxNodes)
	v.within(path+".max_nodes", g.MaxNodes, 1, maxNodes)
	if g.MaxNodes >= 1 && g.MinNodes > g.MaxNodes {
		v.addf(path+".min_nodes", "min_nodes is %d, above max_nodes, which is %d.", g.MinNodes, g.MaxNodes)
	}
	v.within(path+".priority", g.Priority, -maxPriority, maxPriority)
	v.numberWithin(path+".price", g.Price, 0, maxPrice)
	v.durationWithin(path+".idle_timeout", g.IdleTimeout, minNodeTimeout, maxIdle)
	v.duration(path+".launch_timeout", g.LaunchTimeout, minNodeTimeout)
	v.duration(path+".drain_timeout", g.DrainTimeout, minNodeTimeout)
	v.entries(path+".labels", "label", g.Labels, labelProblem)
	v.entries(path+".env", "variable", g.Env, nodeEnvProblem)
	v.nodeShape(path+".node", g.Node)
	v.target(path+".target", g.Target)
	if g.ScaleDown != nil {
		v.scaleDown(path+".scale_down", g.ScaleDown)
	}
	if g.Buffer != nil {
		v.buffer(path+".buffer", g)
	}
	v.nodeSchedules(path+".schedule", g)
	v.prefetches(path+".prefetch", g)
}

func (v *validator) pool(path, pool string) {
	switch pool {
	case "all":
		v.addf(path, `Node pool "all" is Nomad's own: every node is in it, whatever its pool. Give the group a pool of its own.`)
	case "default":
		v.addf(path, `Node pool "default" holds every node that names no pool, also those that are no worker group's. Give the group a pool of its own.`)
	default:
		if problem := nodePoolProblem(pool); problem != "" {
			v.addf(path, "%s", problem)
		}
	}
}

// entries holds the names of a map to a rule, and its values to what an agent's
// configuration can hold.
func (v *validator) entries(path, what string, entries map[string]string, rule func(name string) string) {
	if len(entries) > maxEntries {
		v.addf(path, "At most %d are allowed; these are %d.", maxEntries, len(entries))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		at := join(path, clip(name))
		if problem := rule(name); problem != "" {
			v.addf(at, "%s is no %s's name: %s", quote(name), what, problem)
		}
		if problem := valueProblem(entries[name]); problem != "" {
			v.addf(at, "%s", problem)
		}
	}
}

func valueProblem(value string) string {
	switch {
	case len(value) > maxValue:
		return fmt.Sprintf("A value has at most %d bytes; this has %d.", maxValue, len(value))
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return "There are control characters in this value."
	default:
		return ""
	}
}

// wordProblem holds a name to letters, digits and the extra characters, and to
// a letter or '_' at its start.
func wordProblem(name, extra string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	sound := name != "" && len(name) <= maxEntry && strings.Contains(letters+"_", name[:1])
	if sound && strings.Trim(name, letters+"0123456789"+extra) == "" {
		return ""
	}
	quoted := make([]string, len(extra))
	for i, c := range extra {
		quoted[i] = strconv.QuoteRune(c)
	}
	return fmt.Sprintf("use 1 to %d letters, digits and %s, starting with a letter or '_'.", maxEntry, strings.Join(quoted, ", "))
}

func labelProblem(name string) string { return wordProblem(name, "_.-") }

func nodeEnvProblem(name string) string {
	for _, prefix := range []string{"NOMAD_", "CONSUL_"} {
		if strings.HasPrefix(name, prefix) {
			return "those that begin with " + prefix + " set up the node's agents, which is for the target to do."
		}
	}
	return wordProblem(name, "_")
}

func attributeProblem(name string) string {
	if bare, prefixed := strings.CutPrefix(name, "attr."); prefixed {
		return fmt.Sprintf("it is written without \"attr.\", as %s.", quote(bare))
	}
	return wordProblem(name, "_.-")
}

func (v *validator) target(path string, t NodeTarget) {
	kinds := []string{TargetProcess, TargetPlugin, TargetExec, TargetNone}
	switch {
	case !slices.Contains(kinds, t.Kind) && wordProblem(t.Kind, "_-") == "":
		v.addf(path, `One of "process", "plugin", "exec" and "none" is needed; this is %s. A target plugin of the Nomad Autoscaler is written as target "plugin" { plugin = %s }.`,
			quote(t.Kind), quote(t.Kind))
		return
	case !slices.Contains(kinds, t.Kind):
		v.oneOf(path, t.Kind, kinds...)
		return
	}
	if t.Kind == TargetPlugin {
		v.pluginName(path+".plugin", t.Plugin)
	} else if t.Plugin != "" {
		v.addf(path+".plugin", `plugin is only for target "plugin"; leave it out.`)
	}
	if t.Kind == TargetExec {
		v.command(path+".command", t.Command)
	} else if len(t.Command) > 0 {
		v.addf(path+".command", `command is only for target "exec"; leave it out.`)
	}
	v.entries(path+".config", "setting", t.Config, func(name string) string { return wordProblem(name, "_.-") })
}

func (v *validator) pluginName(path, name string) {
	if name == "" {
		v.addf(path, `Which target plugin of the Nomad Autoscaler? Set plugin = "aws-asg", for example.`)
	} else if problem := wordProblem(name, "_-"); problem != "" {
		v.addf(path, "%s is no plugin's name: %s", quote(name), problem)
	}
}

func (v *validator) command(path string, command []string) {
	switch {
	case len(command) == 0 || command[0] == "":
		v.addf(path, `Which command? Set command = ["/usr/local/bin/nodes"], for example.`)
	case !strings.HasPrefix(command[0], "/"):
		v.addf(path+"[0]", "The full path of a program is needed, such as \"/usr/local/bin/nodes\": servers do not all start in the same folder. This is %s.", quote(command[0]))
	case len(command) > maxEntries:
		v.addf(path, "At most %d words are allowed; these are %d.", maxEntries, len(command))
		return
	}
	for i, word := range command {
		if len(word) > maxValue || !utf8.ValidString(word) || strings.ContainsRune(word, 0) {
			v.addf(fmt.Sprintf("%s[%d]", path, i), "A word of a command is text of at most %d bytes.", maxValue)
		}
	}
}

func (v *validator) scaleDown(path string, s *ScaleDown) {
	v.durationWithin(path+".consolidate_after", s.ConsolidateAfter, minNodeTimeout, maxIdle)
	v.budget(path+".budget", s.Budget)
	if len(s.Windows) > maxSchedules {
		v.addf(path+".window", "A scale_down block has at most %d windows; this one has %d.", maxSchedules, len(s.Windows))
		return
	}
	names := map[string]bool{}
	for _, w := range s.Windows {
		if len(v.faults) >= maxFaults {
			return
		}
		if w == nil {
			v.addf(path+".window", "There is no window.")
			continue
		}
		at := path + ".window." + clip(w.Name)
		v.ownName(at, "window", w.Name, names)
		v.recurrence(at, w.Cron, w.Duration, w.Timezone)
		v.budget(at+".budget", w.Budget)
	}
}

// ownName holds a name to the rule of names, and to be the only one.
func (v *validator) ownName(path, what, name string, names map[string]bool) {
	if names[name] {
		v.addf(path, "%s", alreadyThere(what, name))
	}
	names[name] = true
	v.name(path, what, name)
}

func (v *validator) budget(path, budget string) {
	if _, _, ok := readBudget(budget); !ok {
		v.addf(path, "A share of the group's nodes or a number of them is needed, such as \"10%%\", \"2\", or \"0\" for none; this is %s.", quote(budget))
	}
}

// readBudget takes "10%" and "2".
func readBudget(budget string) (n int, percent, ok bool) {
	digits, percent := strings.CutSuffix(budget, "%")
	n, err := strconv.Atoi(digits)
	most := maxNodes
	if percent {
		most = 100
	}
	return n, percent, err == nil && n >= 0 && n <= most && strconv.Itoa(n) == digits
}

func (v *validator) buffer(path string, g *WorkerGroup) {
	b := g.Buffer
	v.within(path+".nodes", b.Nodes, 0, maxNodes)
	v.within(path+".replicas", b.Replicas, 0, maxReplicas)
	if b.Nodes > g.MaxNodes {
		v.addf(path+".nodes", "The buffer is %d nodes, more than max_nodes, which is %d.", b.Nodes, g.MaxNodes)
	}
	switch {
	case b.Replicas == 0 && b.Resources != nil:
		v.addf(path+".resources", "For how many replicas is there to be room? Set replicas, or leave resources out.")
	case b.Replicas == 0 && b.Nodes == 0:
		v.addf(path, "A buffer keeps nodes or replicas free; this one sets neither.")
	case b.Replicas == 0:
	case b.Resources == nil:
		v.addf(path+".replicas", "How large are they? Add resources { cpu = 1 }, for example, or set nodes instead of replicas.")
	default:
		before := len(v.faults)
		v.resources(path+".resources", *b.Resources)
		v.fits(path+".resources", g.Node, *b.Resources)
		if per := g.Node.holds(*b.Resources); len(v.faults) == before && per > 0 && (b.Replicas+per-1)/per > g.MaxNodes {
			v.addf(path+".replicas", "A node has room for %d of these, so %d take %d nodes, more than max_nodes, which is %d.",
				per, b.Replicas, (b.Replicas+per-1)/per, g.MaxNodes)
		}
	}
}

func (v *validator) nodeSchedules(path string, g *WorkerGroup) {
	if len(g.Schedules) > maxSchedules {
		v.addf(path, "A worker group has at most %d schedules; this one has %d.", maxSchedules, len(g.Schedules))
		return
	}
	names := map[string]bool{}
	for _, s := range g.Schedules {
		if len(v.faults) >= maxFaults {
			return
		}
		if s == nil {
			v.addf(path, "There is no schedule.")
			continue
		}
		at := path + "." + clip(s.Name)
		v.ownName(at, "schedule", s.Name, names)
		v.recurrence(at, s.Cron, s.Duration, s.Timezone)
		if s.MinNodes == nil && s.MaxNodes == nil {
			v.addf(at, "A schedule sets min_nodes, max_nodes or both; this one sets neither.")
			continue
		}
		v.scheduledBounds(at, "nodes", bound{g.MinNodes, s.MinNodes}, bound{g.MaxNodes, s.MaxNodes}, 0, maxNodes)
	}
}

func (v *validator) prefetches(path string, g *WorkerGroup) {
	if len(g.Prefetch) > maxPrefetches {
		v.addf(path, "A worker group has at most %d prefetch blocks; this one has %d.", maxPrefetches, len(g.Prefetch))
		return
	}
	names := map[string]bool{}
	for _, p := range g.Prefetch {
		if p == nil {
			v.addf(path, "There is no prefetch block.")
			continue
		}
		at := path + "." + clip(p.Name)
		v.ownName(at, "prefetch", p.Name, names)
		v.resources(at+".resources", p.Resources)
		v.fits(at+".resources", g.Node, p.Resources)
		v.task(at+".task", prefetchTask, p.Task, p.Name, p.Resources.GPU)
		if p.Task != nil {
			if problem := g.Node.driverProblem(p.Task.Driver); problem != "" {
				v.addf(at+".task.driver", "%s", problem)
			}
		}
	}
}
