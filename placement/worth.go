package placement

import "strings"

// weigh finds the shapes that may be opened in a stage, and what a replica of
// each class is worth then: its part of the cost of the cheapest nodes that
// would hold all that the stage is about. It reports whether there is anything
// to do.
func (s *solver) weigh(g *stage, shapes *[]*shape) bool {
	*shapes = (*shapes)[:0]
	var want bitset
	var drivers []int
	for k, c := range s.list {
		if s.left[k] > 0 && g.drives(c) {
			drivers = append(drivers, k)
			if want == nil {
				want = newBitset(len(s.shapes))
			}
			for i, word := range c.places {
				want[i] |= word
			}
		}
	}
	for i, h := range s.shapes {
		if want != nil && want.has(i) && s.most[i] > 0 && g.allows(h) {
			*shapes = append(*shapes, h)
		}
	}
	if len(*shapes) == 0 {
		return false
	}
	g.worth = s.worth(drivers, *shapes)
	return true
}

// worth prices classes by the linear program.
func (s *solver) worth(drivers []int, shapes []*shape) []float64 {
	kinds := []int{cpu, memory, disk, cores}
	types := s.deviceTypes(drivers)
	width := len(kinds) + len(types)
	uses := func(k int) []float64 {
		row := make([]float64, width)
		for i, d := range kinds {
			if s.largest[d] > 0 && s.largest[d] < plenty {
				row[i] = float64(s.list[k].uses[d]) / float64(s.largest[d])
			}
		}
		for _, request := range s.list[k].devices {
			a := &shapes[0].book.devices[request].ask
			row[len(kinds)+types[deviceType(a.Name)]] += float64(a.Count)
		}
		return row
	}
	demand := make([]float64, width)
	for _, k := range drivers {
		for i, u := range uses(k) {
			demand[i] += u * float64(s.left[k])
		}
	}
	capacity, cost := s.capacities(kinds, types, shapes)
	per := prices(demand, capacity, cost)
	worth := make([]float64, len(s.list))
	for _, k := range drivers {
		for i, u := range uses(k) {
			// What is not short is worth a little, so that a fuller node is better.
			worth[k] += u * (per[i] + 1e-4)
		}
	}
	return worth
}

func (s *solver) capacities(kinds []int, types map[string]int, shapes []*shape) (capacity [][]float64, cost []float64) {
	for _, h := range shapes {
		row := make([]float64, len(kinds)+len(types))
		for i, d := range kinds {
			if s.largest[d] > 0 && s.largest[d] < plenty {
				row[i] = max(0, float64(h.room[d])) / float64(s.largest[d])
			}
		}
		for i := range h.node.Devices {
			if at, asked := types[h.node.Devices[i].Type]; asked {
				row[len(kinds)+at] += float64(len(h.node.Devices[i].Instances))
			}
		}
		capacity = append(capacity, row)
		if s.priced {
			cost = append(cost, h.price)
		} else {
			cost = append(cost, 1)
		}
	}
	return capacity, cost
}

// deviceTypes numbers the types of device that classes ask for.
func (s *solver) deviceTypes(list []int) map[string]int {
	types := map[string]int{}
	for _, k := range list {
		for i := range s.list[k].ask.Devices {
			name := deviceType(s.list[k].ask.Devices[i].Name)
			if _, known := types[name]; !known {
				types[name] = len(types)
			}
		}
	}
	return types
}

// deviceType is the type in "type", "vendor/type" or "vendor/type/name".
func deviceType(name string) string {
	vendor, rest, more := strings.Cut(name, "/")
	if !more {
		return vendor
	}
	kind, _, _ := strings.Cut(rest, "/")
	return kind
}
