package consulsd

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// holdFor is how long a route or a replica that is missing after Consul lost
// its data is kept: until then the leader has written the routes again, and
// the agents have registered the replicas again.
const holdFor = 60 * time.Second

// table is the routing table as it was last read, with what is kept of it.
type table struct {
	good   map[string]goodEntry // application -> the last entry that could be served by
	index  map[string]uint64    // application -> ModifyIndex of what lies in Consul, good or bad
	faults map[string]string    // application -> what is wrong with what lies there
	held   map[string]time.Time // application -> when its missing entry is given up
}

// goodEntry is an entry that can be served by.
type goodEntry struct {
	route       routes.Route
	value       []byte
	createIndex uint64
}

func newTable() *table {
	return &table{
		good:   map[string]goodEntry{},
		index:  map[string]uint64{},
		faults: map[string]string{},
		held:   map[string]time.Time{},
	}
}

// read takes in an answer: what lies in Consul now, and whether Consul may have
// lost data since the answer before. It returns what is to be logged.
func (t *table) read(entries []storedEntry, lost bool, now time.Time) (notes []string) {
	before, good := t.faults, maps.Clone(t.good)
	t.index, t.faults = map[string]uint64{}, map[string]string{}
	for _, e := range entries {
		t.index[e.application] = e.modifyIndex
		if good, ok := t.good[e.application]; ok && bytes.Equal(good.value, e.value) {
			good.createIndex = e.createIndex
			t.good[e.application] = good
			continue
		}
		route, err := decodeEntry(e.application, e.value)
		if err != nil {
			t.faults[e.application] = err.Error()
			continue
		}
		t.good[e.application] = goodEntry{route, e.value, e.createIndex}
	}
	notes = t.hold(lost, now)
	t.settlePrefixes(good)
	for _, application := range slices.Sorted(maps.Keys(t.faults)) {
		if t.faults[application] != before[application] {
			notes = append(notes, fmt.Sprintf("the entry of %q is ignored: %s", clip(application), t.faults[application]))
		}
	}
	return notes
}

// hold keeps the entries that are missing because Consul lost its data, and
// lets go of those that were deleted.
func (t *table) hold(lost bool, now time.Time) (notes []string) {
	for _, application := range slices.Sorted(maps.Keys(t.good)) {
		_, there := t.index[application]
		_, held := t.held[application]
		switch {
		case there:
			delete(t.held, application)
		case held: // let go by expire
		case lost:
			t.held[application] = now.Add(holdFor)
			notes = append(notes, fmt.Sprintf("the entry of %q is gone since Consul's index went backwards: its route is kept for %s", application, holdFor))
		default:
			delete(t.good, application)
		}
	}
	return notes
}

// settlePrefixes sees to it that no two applications have one route prefix,
// which two proxies could take for different ones. Who had it before keeps it,
// else the older entry has it; the other application stays at what it was.
func (t *table) settlePrefixes(before map[string]goodEntry) {
	had := func(application string) int {
		if before[application].route.RoutePrefix == t.good[application].route.RoutePrefix {
			return 0
		}
		return 1
	}
	byRight := slices.SortedFunc(maps.Keys(t.good), func(a, b string) int {
		return cmp.Or(
			cmp.Compare(had(a), had(b)),
			cmp.Compare(t.good[a].createIndex, t.good[b].createIndex),
			cmp.Compare(a, b),
		)
	})
	owner := map[string]string{}
	for _, application := range byRight {
		prefix := t.good[application].route.RoutePrefix
		first, taken := owner[prefix]
		if !taken {
			owner[prefix] = application
			continue
		}
		t.faults[application] = fmt.Sprintf("application %q has the route prefix %q already", first, prefix)
		earlier, ok := before[application]
		if _, taken := owner[earlier.route.RoutePrefix]; ok && !taken {
			owner[earlier.route.RoutePrefix] = application
			t.good[application] = earlier
			continue
		}
		delete(t.good, application)
		delete(t.held, application)
	}
}

// expire lets go of what was held for long enough, and says whether anything was.
func (t *table) expire(now time.Time) bool {
	expired := false
	for application, until := range t.held {
		if !now.Before(until) {
			delete(t.held, application)
			delete(t.good, application)
			expired = true
		}
	}
	return expired
}

// services returns who is served by each service: its application and
// deployment, as the table names them in any generation.
func (t *table) services() map[string]owners {
	services := map[string]owners{}
	for application, entry := range t.good {
		for _, generation := range entry.route.Generations() {
			for deployment, d := range generation.Deployments {
				if services[d.Service] == nil {
					services[d.Service] = owners{}
				}
				services[d.Service][owner{application, deployment}] = true
			}
		}
	}
	return services
}

// owner is one deployment of one application.
type owner struct{ application, deployment string }

type owners map[owner]bool

// fill writes the table's part of a View.
func (t *table) fill(view *routes.View) {
	view.Table = make(routes.Table, len(t.good))
	for application, entry := range t.good {
		view.Table[application] = entry.route
	}
	view.Index = maps.Clone(t.index)
	view.Kept = map[string]string{}
	for application, fault := range t.faults {
		if _, ok := t.good[application]; ok {
			view.Kept[application] = "its entry in Consul is ignored: " + fault
		}
	}
	for application := range t.held {
		view.Kept[application] = "its entry is gone from Consul, which has lost data"
	}
}

// same says whether a consumer of a View could tell a from b.
func same(a, b *routes.View) bool {
	return a.Known == b.Known && a.Error == b.Error &&
		slices.Equal(a.Endpoints, b.Endpoints) && slices.Equal(a.Gatekeepers, b.Gatekeepers) &&
		maps.Equal(a.Index, b.Index) && maps.Equal(a.Kept, b.Kept) &&
		reflect.DeepEqual(a.Table, b.Table)
}
