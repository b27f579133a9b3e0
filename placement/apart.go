package placement

// jobKey names the replicas that distinct_hosts and distinct_property keep
// apart from each other.
type jobKey struct{ namespace, job string }

func (a *Ask) key() jobKey {
	if a.Job == "" {
		return jobKey{job: "\x00" + a.Key} // a buffer, which is no job
	}
	return jobKey{namespaceOf(a.Namespace), a.Job}
}

func namespaceOf(name string) string {
	if name == "" {
		return "default"
	}
	return name
}

// apart reports whether it matters where other replicas of the job are.
func (a *Ask) apart() bool { return a.DistinctHosts || len(a.Distinct) > 0 }

// tally counts where the replicas of one job are.
type tally struct {
	hosts  map[*slot]int
	values map[string]map[string]int // property -> value -> replicas on nodes with it
}

// noTally is that of a job without replicas.
func noTally() *tally { return &tally{hosts: map[*slot]int{}, values: map[string]map[string]int{}} }

// newTally counts what runs on nodes. Of those that are being emptied only
// what stays counts.
func newTally(key jobKey, slots []slot, leaving func(i int) bool) *tally {
	t := noTally()
	for i := range slots {
		for _, alloc := range slots[i].node.Allocs {
			if alloc.Job == key.job && namespaceOf(alloc.Namespace) == key.namespace && (!alloc.Movable || !leaving(i)) {
				t.hosts[&slots[i]]++
			}
		}
	}
	return t
}

// count adds replicas on a node, or takes them away.
func (t *tally) count(s *slot, by int) {
	t.hosts[s] += by
	for property, values := range t.values {
		if v := resolve(property, s.node); v.found {
			values[v.text] += by
		}
	}
}

// with says how many replicas are on nodes with a value of a property.
func (t *tally) with(property, text string) int {
	values, known := t.values[property]
	if !known {
		values = map[string]int{}
		for s, n := range t.hosts {
			if v := resolve(property, s.node); v.found {
				values[v.text] += n
			}
		}
		t.values[property] = values
	}
	return values[text]
}

// room says how many more replicas the rules allow on a node.
func (t *tally) room(a *Ask, s *slot, most int) int {
	if a.DistinctHosts {
		most = min(most, 1-t.hosts[s])
	}
	for _, p := range a.Distinct {
		v := resolve(p.Property, s.node)
		switch {
		case v.own: // each new node has a value of its own
			most = min(most, p.Limit-t.hosts[s])
		case !v.found:
			return 0
		default:
			most = min(most, p.Limit-t.with(p.Property, v.text))
		}
	}
	return max(most, 0)
}
