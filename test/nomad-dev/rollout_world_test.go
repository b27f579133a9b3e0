//go:build e2e

package nomaddev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// routeLog is every change of an application's route that Consul has shown.
type routeLog struct {
	mu   sync.Mutex
	seen []routeSeen
}

type routeSeen struct {
	at    time.Time
	index uint64
	route *routes.Route // nil: there is none
}

// watchRoute follows the application's route until the test ends.
func (m *menu) watchRoute() *routeLog {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := &routeLog{}
	var done sync.WaitGroup
	m.t.Cleanup(func() { cancel(); done.Wait() })
	done.Go(func() {
		for ctx.Err() == nil {
			seen, err := m.readRoute(ctx)
			if err == nil {
				log.add(seen)
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return log
}

// readRoute reads the route from Consul.
func (m *menu) readRoute(ctx context.Context) (routeSeen, error) {
	body, err := tryGet(ctx, m.Consul.URL()+"/v1/kv/serve-nomad/routes/"+m.name)
	if err != nil {
		if strings.Contains(err.Error(), "404 Not Found") {
			return routeSeen{at: time.Now()}, nil
		}
		return routeSeen{}, err
	}
	var pairs []struct {
		Value       []byte
		ModifyIndex uint64
	}
	if err = json.Unmarshal(body, &pairs); err != nil {
		return routeSeen{}, err
	}
	seen := routeSeen{at: time.Now(), index: pairs[0].ModifyIndex, route: &routes.Route{}}
	return seen, json.Unmarshal(pairs[0].Value, seen.route)
}

func (l *routeLog) add(seen routeSeen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.seen); n == 0 || l.seen[n-1].index != seen.index {
		l.seen = append(l.seen, seen)
	}
}

// weightSeen is the percent of the requests that a generation took from a
// moment on.
type weightSeen struct {
	at     time.Time
	weight int
}

// weights returns how the weight of a generation changed, from the time before
// there was one: 0.
func (l *routeLog) weights(generation int) []weightSeen {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []weightSeen
	for _, s := range l.seen {
		weight := 0
		if s.route != nil {
			for _, g := range s.route.Generations() {
				if g.Number == generation {
					weight = g.Weight
				}
			}
		}
		if n := len(list); n == 0 || list[n-1].weight != weight {
			list = append(list, weightSeen{at: s.at, weight: weight})
		}
	}
	return list
}

// generations returns the numbers of all generations that were ever in the
// route.
func (l *routeLog) generations() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[int]bool{}
	for _, s := range l.seen {
		if s.route != nil {
			for _, g := range s.route.Generations() {
				all[g.Number] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func (l *routeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	b.WriteString("route:\n")
	for _, s := range l.seen {
		fmt.Fprintf(&b, "  %s", s.at.Format("05.000"))
		if s.route == nil {
			b.WriteString(" none\n")
			continue
		}
		fmt.Fprintf(&b, " watched %t", s.route.Watched)
		for _, g := range s.route.Generations() {
			fmt.Fprintf(&b, "; generation %d: %d percent", g.Number, g.Weight)
			for _, name := range slices.Sorted(maps.Keys(g.Deployments)) {
				fmt.Fprintf(&b, " %s=%s", name, strings.Join(g.Deployments[name].Versions(), "+"))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// jobInNomad is a job of the application that is not stopped.
type jobInNomad struct {
	id     string
	count  int      // that it asks for
	allocs []string // that run or are to run
}

// jobs returns the application's jobs in Nomad that are not stopped or still
// have a replica.
func (m *menu) jobs() ([]jobInNomad, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var list []struct {
		ID   string
		Stop bool
	}
	if err := m.nomadGet(ctx, "/v1/jobs?prefix=serve-"+m.name+"-", &list); err != nil {
		return nil, err
	}
	var found []jobInNomad
	for _, j := range list {
		var allocs []struct{ ID, DesiredStatus, ClientStatus string }
		if err := m.nomadGet(ctx, "/v1/job/"+j.ID+"/allocations?all=true", &allocs); err != nil {
			return nil, err
		}
		job := jobInNomad{id: j.ID}
		for _, a := range allocs {
			if a.ClientStatus == "running" || a.ClientStatus == "pending" {
				job.allocs = append(job.allocs, a.ID)
			}
		}
		if j.Stop && len(job.allocs) == 0 {
			continue
		}
		var spec struct{ TaskGroups []struct{ Count int } }
		if err := m.nomadGet(ctx, "/v1/job/"+j.ID, &spec); err != nil {
			return nil, err
		}
		job.count = spec.TaskGroups[0].Count
		slices.Sort(job.allocs)
		found = append(found, job)
	}
	return found, nil
}

func (m *menu) nomadGet(ctx context.Context, path string, into any) error {
	body, err := tryGet(ctx, m.Nomad.URL()+path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// alone says whether Nomad has one job for each deployment of e with as many
// replicas as it is to have, and no other, and the route names one generation
// and one version of each.
func (m *menu) alone(e edition) error {
	jobs, err := m.jobs()
	if err != nil {
		return err
	}
	want := map[string]int{}
	for _, name := range e.called() {
		want[name] = backReplicas
	}
	if e.scales == "" {
		want["front"] = e.frontReplicas()
	}
	byName := map[string]int{}
	for _, j := range jobs {
		name, _, _ := strings.Cut(strings.TrimPrefix(j.id, "serve-"+m.name+"-"), "-")
		byName[name]++
		if n, known := want[name]; known && (len(j.allocs) != n || j.count != n) {
			return fmt.Errorf("%s: %d replicas of %d, and %d are wanted", j.id, len(j.allocs), j.count, n)
		}
	}
	if len(byName) != len(e.called())+1 || len(jobs) != len(byName) {
		return fmt.Errorf("jobs: %+v", jobs)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	seen, err := m.readRoute(ctx)
	if err != nil || seen.route == nil {
		return fmt.Errorf("there is no route: %w", err)
	}
	if len(seen.route.Others) > 0 || len(seen.route.Deployments) != len(e.called())+1 || seen.route.Watched {
		return fmt.Errorf("route: %+v", seen.route)
	}
	for name, d := range seen.route.Deployments {
		if len(d.Also) > 0 {
			return fmt.Errorf("route of %s: %+v", name, d)
		}
	}
	return nil
}

// allocs returns the ids of all replicas that run or are to run.
func (m *menu) allocs() []string {
	m.t.Helper()
	var ids []string
	eventually(m.t, 20*time.Second, "Nomad says which replicas run", func() error {
		jobs, err := m.jobs()
		ids = nil
		for _, j := range jobs {
			ids = append(ids, j.allocs...)
		}
		return err
	})
	slices.Sort(ids)
	return ids
}

// visits is the requests that reached replicas of one version of the front.
type visits struct {
	times map[int]int // by request id, how often
	at    []time.Time // each, in order
}

// nth returns when the nth request came, or the last if there were not as many.
func (v visits) nth(n int) time.Time {
	if len(v.at) == 0 {
		return time.Time{}
	}
	return v.at[min(n, len(v.at))-1]
}

// reached returns which requests reached a version of the front.
func (m *menu) reached(version string) visits {
	m.t.Helper()
	v := visits{times: map[int]int{}}
	files, err := filepath.Glob(filepath.Join(m.dir, "front_"+version+"_*"))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var id int
			var ns int64
			if _, err = fmt.Sscan(line, &id, &ns); err != nil {
				m.t.Fatalf("%s: %q: %v", path, line, err)
			}
			v.times[id]++
			v.at = append(v.at, time.Unix(0, ns))
		}
	}
	slices.SortFunc(v.at, time.Time.Compare)
	return v
}

// killReplicas kills every replica of the front with that version, as kill -9
// does, and returns how many that were.
func (m *menu) killReplicas(version string) int {
	m.t.Helper()
	n := 0
	for _, pid := range taskPidsOf(m.t, m.shop, m.name) {
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		text := "\x00" + string(env)
		if err != nil || !strings.Contains(text, "\x00SERVE_DEPLOYMENT=front\x00") || !strings.Contains(text, "\x00VERSION="+version+"\x00") {
			continue
		}
		if cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err != nil || !strings.HasPrefix(string(cmdline), m.program) {
			continue // Nomad's own process beside the task
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}
