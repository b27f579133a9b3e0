package appspec

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"
	"pgregory.net/rapid"
)

// soundRollout uses all that a canary can have.
func soundRollout() *Rollout {
	return &Rollout{
		Strategy: "canary", MaxSurge: new(50), Steps: []int{1, 10, 50, 100}, Interval: Duration(time.Minute), Sticky: true,
		ProgressDeadline: Duration(time.Minute), DrainTimeout: Duration(time.Minute), AutoRollback: new(false),
		Shadow: 10, ShadowTime: Duration(time.Minute),
		Gates: &Gates{
			MaxErrorIncrease: new(0.0), MaxLatencyRatio: new(1.5), MaxRestarts: new(0),
			Queries: []*Query{{Name: "depth", Query: "sum(queue_depth)", Min: new(-1.5), Max: new(10.0), Interval: Duration(time.Second)}},
		},
	}
}

func soundCheck() *Check {
	return &Check{Name: "smoke", Task: &api.Task{Driver: "exec"}, Resources: Resources{CPU: 0.1, MemoryMB: 64}, Timeout: Duration(time.Minute)}
}

func TestWhatHoldsWithoutARollout(t *testing.T) {
	for name, r := range map[string]*Rollout{"no block": nil, "an empty block": {}, "empty gates": {Gates: &Gates{}}} {
		errors, latency, restarts := r.Limits()
		percent, copied := r.Shadows()
		got := fmt.Sprint(r.Weights(StrategyCanary), r.Weights(StrategyBlueGreen), r.Surge(StrategyRolling), r.Surge(StrategyBlueGreen), r.Surge(StrategyCanary),
			r.Unavailable(), r.Bake(), r.StepTime(), r.Drain(), r.RollsBack(), percent, copied, errors, latency, restarts)
		if want := "[1 10 50 100] [100] 25 100 100 0 10s 1m0s 5m0s true 0 0s 0.01 3 2"; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if q, c, r := new(Query), new(Check), new(Reconfigure); q.Every() != 5*time.Second || c.Within() != 5*time.Minute || r.Within() != 10*time.Second {
		t.Errorf("%s, %s, %s", q.Every(), c.Within(), r.Within())
	}
}

func TestWhatARolloutSays(t *testing.T) {
	r := soundRollout()
	r.BakeTime = new(Duration(0))
	r.MaxUnavailable = 20
	r.Gates.MaxRestarts = new(-1)
	errors, latency, restarts := r.Limits()
	percent, copied := r.Shadows()
	got := fmt.Sprint(r.Weights(StrategyCanary), r.Weights(StrategyBlueGreen), r.Surge(StrategyRolling), r.Surge(StrategyBlueGreen), r.Surge(StrategyCanary),
		r.Unavailable(), r.Bake(), r.StepTime(), r.Drain(), r.RollsBack(), percent, copied, errors, latency, restarts)
	if want := "[1 10 50 100] [100] 50 100 50 20 0s 1m0s 1m0s false 10 1m0s 0 1.5 -1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if q, c := r.Gates.Queries[0], soundCheck(); q.Every() != time.Second || c.Within() != time.Minute {
		t.Errorf("%s, %s", q.Every(), c.Within())
	}
}

func TestValidateRollout(t *testing.T) {
	for name, r := range map[string]*Rollout{
		"all of a canary":      soundRollout(),
		"nothing":              {},
		"rolling":              {Strategy: "rolling", MaxSurge: new(0), MaxUnavailable: 25, BakeTime: new(Duration(0))},
		"blue_green":           {Strategy: "blue_green", MaxSurge: new(100), BakeTime: new(Duration(time.Hour)), Shadow: 100, Sticky: true, DrainTimeout: Duration(time.Hour)},
		"what changed decides": {MaxSurge: new(1), MaxUnavailable: 100, BakeTime: new(Duration(time.Hour)), DrainTimeout: Duration(time.Hour)},
		"a check":              {Strategy: "canary", Gates: &Gates{Checks: []*Check{soundCheck()}}},
		"no limits":            {Gates: &Gates{MaxErrorIncrease: new(-1.0), MaxLatencyRatio: new(-1.0), MaxRestarts: new(-1)}},
		"small steps":          {Strategy: "canary", MaxSurge: new(25), Steps: []int{25, 50, 75}},
		"a hundred steps":      {Strategy: "canary", MaxSurge: new(1), Steps: upTo(100)},
	} {
		app := sound()
		if app.Rollout = r; len(Validate(app)) > 0 {
			t.Errorf("%s has no fault: %v", name, Validate(app))
		}
	}
	canary := func(surge int, steps ...int) func(r *Rollout) {
		return func(r *Rollout) { r.MaxSurge, r.Steps = new(surge), steps }
	}
	as := func(strategy string, change func(r *Rollout)) func(r *Rollout) {
		return func(r *Rollout) { *r = Rollout{Strategy: strategy}; change(r) }
	}
	query := func(change func(q *Query)) func(r *Rollout) {
		return func(r *Rollout) { change(r.Gates.Queries[0]) }
	}
	for name, c := range map[string]struct {
		change func(r *Rollout)
		path   string
		says   string
	}{
		"an unknown strategy":        {func(r *Rollout) { r.Strategy = "Canary" }, "strategy", `"rolling", "blue_green" and "canary"`},
		"a strategy of our own":      {func(r *Rollout) { r.Strategy = "live" }, "strategy", `this is "live"`},
		"a surge below 0":            {canary(-1, 10), "max_surge", "from 0 to 100"},
		"a surge over 100":           {canary(101, 10), "max_surge", "from 0 to 100"},
		"missing below 0":            {as("rolling", func(r *Rollout) { r.MaxUnavailable = -1 }), "max_unavailable", "from 0 to 100"},
		"missing over 100":           {as("rolling", func(r *Rollout) { r.MaxUnavailable = math.MaxInt }), "max_unavailable", "from 0 to 100"},
		"rolling that cannot begin":  {as("rolling", func(r *Rollout) { r.MaxSurge = new(0) }), "max_surge", "set max_unavailable"},
		"canary that cannot begin":   {canary(0, 10), "max_surge", "no replica of the new version"},
		"blue_green with a part":     {as("blue_green", func(r *Rollout) { r.MaxSurge = new(99) }), "max_surge", "leave max_surge out"},
		"no room, and no strategy":   {as("", func(r *Rollout) { r.MaxSurge, r.MaxUnavailable = new(0), 25 }), "max_surge", `set strategy = "rolling"`},
		"a step of 0":                {canary(100, 0, 10), "steps[0]", "from 1 to 100 is needed here; this is 0"},
		"a step below 0":             {canary(100, -5), "steps[0]", "this is -5"},
		"a step twice":               {canary(100, 1, 10, 10), "steps[2]", "from 11 to 100"},
		"steps that go down":         {canary(100, 50, 10), "steps[1]", "from 51 to 100"},
		"a step over 100":            {canary(100, 50, 101), "steps[1]", "this is 101"},
		"a step after all":           {canary(100, 100, 100), "steps[1]", "leave out what comes after it"},
		"too many steps":             {func(r *Rollout) { r.Steps = make([]int, 101) }, "steps", "At most 100"},
		"a first step over surge":    {canary(10, 20, 30), "steps[0]", "From 0 to 20 percent, steps take 20 percent of the requests at once, and max_surge = 10"},
		"a step over surge":          {canary(25, 1, 10, 50), "steps[2]", "set max_surge to 50 at least, or steps = [1, 10, 35, 50, 75]"},
		"a last step over surge":     {canary(25, 25, 50), "steps[1]", "From 50 to 100"},
		"default steps over surge":   {canary(25), "max_surge", "the default steps take 40 percent"},
		"a surge of almost nothing":  {canary(1, 50), "steps[0]", "18, 19, 20, ...]"},
		"steps without a canary":     {as("rolling", func(r *Rollout) { r.Steps = []int{10} }), "steps", `only used by strategy "canary". Set strategy = "canary"`},
		"steps without a strategy":   {as("", func(r *Rollout) { r.Steps = []int{10} }), "steps", `Set strategy = "canary", or leave it out`},
		"interval of blue_green":     {as("blue_green", func(r *Rollout) { r.Interval = Duration(time.Minute) }), "interval", `"canary"`},
		"sticky rolling":             {as("rolling", func(r *Rollout) { r.Sticky = true }), "sticky", `"blue_green" and "canary"`},
		"sticky by what changed":     {as("", func(r *Rollout) { r.Sticky = true }), "sticky", `Set strategy = "canary"`},
		"shadow rolling":             {as("rolling", func(r *Rollout) { r.Shadow = 5 }), "shadow", `"blue_green" and "canary"`},
		"shadow by what changed":     {as("", func(r *Rollout) { r.Shadow = 5 }), "shadow", `Set strategy = "canary"`},
		"a canary with some missing": {func(r *Rollout) { r.MaxUnavailable = 1 }, "max_unavailable", "keeps all of its replicas"},
		"a canary that bakes":        {func(r *Rollout) { r.BakeTime = new(Duration(1)) }, "bake_time", "interval says"},
		"rolling that drains":        {as("rolling", func(r *Rollout) { r.DrainTimeout = Duration(time.Minute) }), "drain_timeout", "graceful_shutdown_timeout"},
		"shadow below 0":             {func(r *Rollout) { r.Shadow = -1 }, "shadow", "from 0 to 100"},
		"shadow over 100":            {func(r *Rollout) { r.Shadow = 101 }, "shadow", "from 0 to 100"},
		"more shadow than surge":     {func(r *Rollout) { r.Shadow = 51 }, "shadow", "set max_surge to 51 at least"},
		"a time of no shadow":        {func(r *Rollout) { r.Shadow = 0 }, "shadow_time", "How many requests"},
		"a shadow without time":      {func(r *Rollout) { r.ShadowTime = -1 }, "shadow_time", "from 1s to 744h"},
		"a short interval":           {func(r *Rollout) { r.Interval = 1 }, "interval", "from 1s to 744h"},
		"an endless interval":        {func(r *Rollout) { r.Interval = math.MaxInt64 }, "interval", "from 1s to 744h"},
		"a negative bake_time":       {as("rolling", func(r *Rollout) { r.BakeTime = new(Duration(-1)) }), "bake_time", "from 0s to 744h"},
		"a negative deadline":        {func(r *Rollout) { r.ProgressDeadline = -1 }, "progress_deadline", "from 1s to 24h"},
		"a long drain":               {func(r *Rollout) { r.DrainTimeout = Duration(25 * time.Hour) }, "drain_timeout", "from 1s to 24h"},
		"errors NaN":                 {func(r *Rollout) { r.Gates.MaxErrorIncrease = new(math.NaN()) }, "gates.max_error_increase", "-1 for no limit; this is NaN"},
		"errors in percent":          {func(r *Rollout) { r.Gates.MaxErrorIncrease = new(5.0) }, "gates.max_error_increase", "from 0 to 1 is needed"},
		"errors below -1":            {func(r *Rollout) { r.Gates.MaxErrorIncrease = new(-2.0) }, "gates.max_error_increase", "from 0 to 1"},
		"faster than before":         {func(r *Rollout) { r.Gates.MaxLatencyRatio = new(0.5) }, "gates.max_latency_ratio", "from 1 to 1000"},
		"endlessly slower":           {func(r *Rollout) { r.Gates.MaxLatencyRatio = new(math.Inf(1)) }, "gates.max_latency_ratio", "+Inf"},
		"restarts below -1":          {func(r *Rollout) { r.Gates.MaxRestarts = new(-2) }, "gates.max_restarts", "from 0 to 10000"},
		"many restarts":              {func(r *Rollout) { r.Gates.MaxRestarts = new(math.MaxInt) }, "gates.max_restarts", "-1 for no limit"},
		"too many queries":           {func(r *Rollout) { r.Gates.Queries = make([]*Query, 21) }, "gates.query", "at most 20"},
		"nil queries":                {func(r *Rollout) { r.Gates.Queries[0] = nil }, "gates.query", "no query"},
		"a query's name":             {query(func(q *Query) { q.Name = "" }), "gates.query.", "starting with a letter"},
		"a query's name twice":       {func(r *Rollout) { r.Gates.Queries = append(r.Gates.Queries, r.Gates.Queries[0]) }, "gates.query.depth", "already"},
		"a query of nothing":         {query(func(q *Query) { q.Query = " \n" }), "gates.query.depth.query", "What is Prometheus asked"},
		"a long query":               {query(func(q *Query) { q.Query = strings.Repeat("x", 5000) }), "gates.query.depth.query", "at most 4096"},
		"a query without bounds":     {query(func(q *Query) { q.Min, q.Max = nil, nil }), "gates.query.depth", "sets neither"},
		"a query's min above max":    {query(func(q *Query) { q.Min = new(11.0) }), "gates.query.depth.min", "min is 11, above max, which is 10"},
		"a query's bound NaN":        {query(func(q *Query) { q.Min = new(math.NaN()) }), "gates.query.depth.min", "NaN"},
		"a query's bound Inf":        {query(func(q *Query) { q.Max = new(math.Inf(1)) }), "gates.query.depth.max", "+Inf"},
		"a busy query":               {query(func(q *Query) { q.Interval = 1 }), "gates.query.depth.interval", "from 1s to 10m"},
	} {
		t.Run(name, func(t *testing.T) {
			app := sound()
			app.Rollout = soundRollout()
			c.change(app.Rollout)
			faults, at := Validate(app), "application.shop.rollout."+c.path
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Path == at && strings.Contains(f.Message, c.says) }) {
				t.Errorf("%s: %q is wanted, not %v", at, c.says, faults)
			}
			if len(faults) > 1 {
				t.Errorf("one fault is wanted, not %v", faults)
			}
		})
	}
}

func upTo(n int) []int {
	var out []int
	for i := range n {
		out = append(out, i+1)
	}
	return out
}

// TestTheStepsThatAreProposedAreRight takes the advice that a fault gives.
func TestTheStepsThatAreProposedAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		app := sound()
		steps := rapid.SliceOfNDistinct(rapid.IntRange(1, 100), 0, 8, rapid.ID[int]).Draw(t, "steps")
		slices.Sort(steps)
		surge := rapid.IntRange(5, 100).Draw(t, "surge")
		app.Rollout = &Rollout{Strategy: "canary", MaxSurge: &surge, Steps: steps}
		faults := Validate(app)
		if len(faults) == 0 {
			last := 0
			for _, weight := range app.Rollout.Weights(StrategyCanary) {
				if weight-last > surge {
					t.Errorf("a step from %d to %d, with a surge of %d", last, weight, surge)
				}
				last = weight
			}
			return
		}
		_, advice, _ := strings.Cut(faults[0].Message, "set max_surge to ")
		larger, proposed, _ := strings.Cut(advice, " at least, or steps = ")
		if strings.HasSuffix(proposed, "...].") {
			return // too many to be written out
		}
		for _, change := range []struct{ what, json string }{
			{"max_surge", larger}, {"steps", strings.TrimSuffix(proposed, ".")},
		} {
			other := throughJSON(t, app)
			to := any(&other.Rollout.Steps)
			if change.what == "max_surge" {
				to = other.Rollout.MaxSurge
			}
			if err := json.Unmarshal([]byte(change.json), to); err != nil {
				t.Fatalf("%s: %v", faults[0].Message, err)
			}
			if again := Validate(other); len(again) > 0 {
				t.Errorf("%s: with that %v", faults[0].Message, again)
			}
		}
	})
}

func TestValidateChecksOfARollout(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *Check)
		path   string
		says   string
	}{
		"its name":                {func(c *Check) { c.Name = "A" }, "check.A", "starting with a letter"},
		"no task":                 {func(c *Check) { c.Task = nil }, "check.smoke.task", "A check block needs a task block"},
		"no driver":               {func(c *Check) { c.Task.Driver = "" }, "check.smoke.task.driver", "driver"},
		"a task's resources":      {func(c *Check) { c.Task.Resources = &api.Resources{} }, "check.smoke.task.resources", "check block's own resources"},
		"a task that stays":       {func(c *Check) { c.Task.Services = []*api.Service{{}} }, "check.smoke.task.service", "ends by itself"},
		"our environment":         {func(c *Check) { c.Task.Env = map[string]string{"SERVE_CHECK_URL": "x"} }, "check.smoke.task.env.SERVE_CHECK_URL", "for each check"},
		"no cores":                {func(c *Check) { c.Resources.CPU = 0 }, "check.smoke.resources.cpu", "from 0.01"},
		"a check that never ends": {func(c *Check) { c.Timeout = math.MaxInt64 }, "check.smoke.timeout", "from 1s to 24h"},
	} {
		t.Run(name, func(t *testing.T) {
			app := sound()
			app.Rollout = soundRollout()
			app.Rollout.Gates.Checks = []*Check{soundCheck()}
			c.change(app.Rollout.Gates.Checks[0])
			faults, at := Validate(app), "application.shop.rollout.gates."+c.path
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Path == at && strings.Contains(f.Message, c.says) }) {
				t.Errorf("%s: %q is wanted, not %v", at, c.says, faults)
			}
		})
	}
	app := sound()
	for _, checks := range [][]*Check{{nil}, make([]*Check, 11), {soundCheck(), soundCheck()}} {
		if app.Rollout = (&Rollout{Gates: &Gates{Checks: checks}}); len(Validate(app)) == 0 {
			t.Errorf("%d checks are taken", len(checks))
		}
	}
	// A port is a replica's; a check may have a variable of that name.
	check := soundCheck()
	check.Task.Env = map[string]string{"PORT": "1"}
	v := validator{allowUnsupported: true}
	if v.gates("gates", &Gates{Checks: []*Check{check}}); len(v.faults) > 0 {
		t.Error(v.faults)
	}
}

func TestValidateReconfigure(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *Deployment)
		path   string // "": there is no fault
		says   string
	}{
		"a signal": {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "SIGHUP"} }, "", ""},
		"a path": {func(d *Deployment) {
			d.Reconfigure = &Reconfigure{Path: "/-/reload?a=b", Timeout: Duration(time.Minute)}
		}, "", ""},
		"neither":                {func(d *Deployment) { d.Reconfigure = &Reconfigure{} }, "reconfigure", `Set signal = "SIGHUP"`},
		"both":                   {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "SIGHUP", Path: "/"} }, "reconfigure", "one of signal and path"},
		"a small signal":         {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "sighup"} }, "reconfigure.signal", `written as "SIGHUP"`},
		"a short signal":         {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "USR1"} }, "reconfigure.signal", `written as "SIGUSR1"`},
		"a signal's number":      {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "1"} }, "reconfigure.signal", "no signal"},
		"what cannot be sent":    {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "SIGCHLD"} }, "reconfigure.signal", "Nomad can send"},
		"what cannot be caught":  {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "SIGKILL"} }, "reconfigure.signal", "can catch SIGKILL"},
		"what ends it":           {func(d *Deployment) { d.Reconfigure = &Reconfigure{Signal: "SIGTERM"} }, "reconfigure.signal", "tells a replica to end"},
		"what ends it instead":   {func(d *Deployment) { d.Task.KillSignal, d.Reconfigure = "sigint", &Reconfigure{Signal: "SIGINT"} }, "reconfigure.signal", "tells a replica to end"},
		"what would end another": {func(d *Deployment) { d.Task.KillSignal, d.Reconfigure = "SIGINT", &Reconfigure{Signal: "SIGTERM"} }, "", ""},
		"another host":           {func(d *Deployment) { d.Reconfigure = &Reconfigure{Path: "//evil/x"} }, "reconfigure.path", "one slash"},
		"no path":                {func(d *Deployment) { d.Reconfigure = &Reconfigure{Path: "x"} }, "reconfigure.path", "starts with a slash"},
		"a path of two lines":    {func(d *Deployment) { d.Reconfigure = &Reconfigure{Path: "/\r\nx"} }, "reconfigure.path", "no place"},
		"a POST for gRPC": {func(d *Deployment) {
			d.Protocol, d.HealthCheck.Path, d.Reconfigure = ProtocolGRPC, "", &Reconfigure{Path: "/x"}
		}, "reconfigure.path", `set signal = "SIGHUP"`},
		"a negative time": {func(d *Deployment) { d.Reconfigure = &Reconfigure{Path: "/x", Timeout: -1} }, "reconfigure.timeout", "from 1s to 24h"},
		"a config of 48 KiB": {func(d *Deployment) {
			d.Reconfigure, d.UserConfig = &Reconfigure{Path: "/x"}, configOf(48<<10)
		}, "", ""},
		"one of more": {func(d *Deployment) {
			d.Reconfigure, d.UserConfig = &Reconfigure{Path: "/x"}, configOf(48<<10+1)
		}, "user_config", "at most 48 KiB"},
		"one of more that new replicas take": {func(d *Deployment) { d.UserConfig = configOf(256 << 10) }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			app := sound()
			c.change(app.Deployments[1])
			faults := Validate(app)
			if c.path == "" {
				if len(faults) > 0 {
					t.Error(faults)
				}
				return
			}
			if len(faults) != 1 || faults[0].Path != "application.shop.deployment.b."+c.path || !strings.Contains(faults[0].Message, c.says) {
				t.Errorf("%s: %q is wanted, not %v", c.path, c.says, faults)
			}
		})
	}
}

func TestNamesBesideAConfigOfRunningReplicas(t *testing.T) {
	for length, want := range map[int]int{45: 0, 46: 1} {
		app := sound()
		app.Name = strings.Repeat("a", 45)
		app.Deployments = app.Deployments[:1]
		d := app.Deployments[0]
		d.Handles, app.Ingress = nil, strings.Repeat("b", length)
		d.Name, d.Reconfigure = strings.Repeat("b", length), &Reconfigure{Path: "/x"}
		if faults := Validate(app); len(faults) != want || want > 0 && !strings.Contains(faults[0].Message, "at most 90 characters together; they have 91") {
			t.Errorf("of %d characters: %v", length, faults)
		}
	}
}

// configOf is a config of so many bytes.
func configOf(size int) json.RawMessage {
	return json.RawMessage(`{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}`)
}

func TestTheConfigThatRunningReplicasTake(t *testing.T) {
	app := sound()
	d := app.Deployments[1]
	set := func(config string, r *Reconfigure) (version, named, with string) {
		d.UserConfig, d.Reconfigure = json.RawMessage(config), r
		return VersionOf(app, d), ConfigOf(d), VersionWithConfig(app, d)
	}
	plain, named, with := set(`{"a":1}`, nil)
	if named != "" || with != plain {
		t.Errorf("without the block: config %q, %s and %s", named, plain, with)
	}
	hup := &Reconfigure{Signal: "SIGHUP"}
	one, oneConfig, oneWith := set(`{"a":1}`, hup)
	two, twoConfig, twoWith := set(`{"a":2}`, hup)
	if one == plain || one != two {
		t.Errorf("versions %s, %s, without the block %s", one, two, plain)
	}
	if len(oneConfig) != 8 || len(twoConfig) != 8 || oneConfig == twoConfig {
		t.Errorf("configs %s and %s", oneConfig, twoConfig)
	}
	if all := []string{one, oneWith, twoWith, plain}; len(slices.Compact(slices.Sorted(slices.Values(all)))) != 4 {
		t.Errorf("versions %v are not four", all)
	}
	if _, spaced, _ := set(" {\"a\" : 1 }\n", hup); spaced != oneConfig {
		t.Error("spaces count")
	}
	_, none, noneWith := set("", hup)
	if _, empty, emptyWith := set("{}", hup); len(none) != 8 || none != empty || noneWith != emptyWith || noneWith == one {
		t.Errorf("no config is %s, one of nothing %s; %s, %s, %s", none, empty, noneWith, emptyWith, one)
	}
	later, _, _ := set(`{"a":1}`, &Reconfigure{Signal: "SIGHUP", Timeout: Duration(time.Minute)})
	other, _, _ := set(`{"a":1}`, &Reconfigure{Signal: "SIGUSR1"})
	post, _, _ := set(`{"a":1}`, &Reconfigure{Path: "/x"})
	elsewhere, _, _ := set(`{"a":1}`, &Reconfigure{Path: "/y"})
	if later != one || other == one || post == one || post == other || elsewhere == post {
		t.Errorf("version %s, with another time %s, signal %s, a path %s, another one %s", one, later, other, post, elsewhere)
	}
	if ConfigOf(nil) != "" || VersionWithConfig(nil, nil) != VersionOf(nil, nil) {
		t.Error("nothing has a config")
	}
}

// TestAConfigChangesEitherReplicasOrTheirConfig holds the three names of a
// deployment's content against each other.
func TestAConfigChangesEitherReplicasOrTheirConfig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, d := anyDeployment(t, "old", "a"), anyDeployment(t, "new", "a")
		app := sound()
		if d.Reconfigure == nil && VersionWithConfig(app, d) != VersionOf(app, d) {
			t.Error("a config that counts already counts twice")
		}
		same := VersionOf(app, old) == VersionOf(app, d) && ConfigOf(old) == ConfigOf(d)
		if (VersionWithConfig(app, old) == VersionWithConfig(app, d)) != same {
			t.Errorf("alike in version and config: %v, with the config %s and %s", same, VersionWithConfig(app, old), VersionWithConfig(app, d))
		}
		if cmp.Equal(old.Reconfigure, d.Reconfigure) && old.Reconfigure != nil && ConfigOf(old) != ConfigOf(d) {
			app.Deployments = []*Deployment{old}
			changes := Diff(app, &Application{Name: app.Name, Deployments: []*Deployment{d}})
			if !slices.ContainsFunc(changes, func(c Change) bool {
				return strings.HasPrefix(c.Path, "deployment.a.user_config") && c.Effect == EffectLive
			}) {
				t.Errorf("another config is not in %v", changes)
			}
		}
		if ConfigOf(throughJSON(t, d)) != ConfigOf(d) {
			t.Error("JSON changes it")
		}
	})
}

func TestEveryFieldOfARolloutIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	for heading, blocks := range map[string][]any{"rollout": {Rollout{}, Gates{}, Query{}}, "reconfigure": {Reconfigure{}}} {
		_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
		if !found {
			t.Fatalf("docs/spec.md has no section %s", heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		for _, block := range blocks {
			for _, field := range reflect.VisibleFields(reflect.TypeOf(block)) {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				if name != "name" && !strings.Contains(section, "`"+name) { // a label
					t.Errorf("docs/spec.md does not say what %s is", name)
				}
			}
		}
	}
}
