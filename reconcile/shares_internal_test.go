package reconcile

import "testing"

// TestShares is of lanes that need ten replicas.
func TestShares(t *testing.T) {
	crews := func(list ...crew) []crew { return list }
	fresh := func(have, healthy int) crew { return crew{role: roleNew, target: 10, have: have, healthy: healthy} }
	serves := func(have, healthy int) crew {
		return crew{role: roleServes, target: 10, have: have, healthy: healthy}
	}
	for name, c := range map[string]struct {
		crews []crew
		pace  pace
		want  []int
	}{
		"the first ones start beside all of the old ones": {crews(fresh(0, 0), serves(10, 10)), pace{surge: 25}, []int{3, 10}},
		"they stay the only ones":                         {crews(fresh(3, 3), serves(10, 10)), pace{surge: 25}, []int{3, 10}},
		"one starts without any surge":                    {crews(fresh(0, 0), serves(10, 10)), pace{}, []int{1, 10}},
		"then an old one goes for each that passes":       {crews(fresh(3, 3), serves(10, 10)), pace{surge: 25, all: true}, []int{6, 7}},
		"and none for those that do not":                  {crews(fresh(3, 1), serves(10, 10)), pace{surge: 25, all: true}, []int{4, 9}},
		"Nomad may take those away that pass":             {crews(fresh(3, 3), serves(10, 8)), pace{surge: 25, all: true}, []int{5, 9}},
		"old ones that do not pass are no capacity":       {crews(fresh(0, 0), serves(10, 6)), pace{surge: 25, all: true}, []int{7, 10}},
		"the last ones":                                   {crews(fresh(10, 10), serves(3, 3)), pace{surge: 25, all: true}, []int{10, 0}},
		"the last one":                                    {crews(fresh(9, 9), serves(1, 1)), pace{surge: 10, all: true}, []int{10, 1}},
		"some may be missing":                             {crews(fresh(0, 0), serves(10, 10)), pace{unavailable: 20}, []int{2, 8}},
		"not more than the percent of them":               {crews(fresh(0, 0), serves(10, 10)), pace{unavailable: 19}, []int{1, 9}},
		"a pause starts none and takes none":              {crews(fresh(3, 3), serves(10, 10)), pace{surge: 25, all: true, held: true}, []int{3, 10}},
		"and none that began":                             {crews(fresh(0, 0), serves(10, 10)), pace{surge: 25, held: true}, []int{0, 10}},
		"without a view of them none goes":                {crews(fresh(3, 3), serves(10, 10)), pace{surge: 25, all: true, blind: true}, []int{3, 10}},
		"what was undone fills in until the old are back": {crews(serves(7, 7), crew{role: roleLeaves, target: 10, have: 6, healthy: 6}), pace{}, []int{10, 3}},
		"and goes then":                                   {crews(serves(10, 10), crew{role: roleLeaves, target: 10, have: 6, healthy: 6}), pace{}, []int{10, 0}},
		"what is bad fills in for half":                   {crews(serves(2, 2), crew{role: roleFailed, target: 10, have: 6, healthy: 6}), pace{}, []int{10, 3}},
		"and not beside a half that is good":              {crews(serves(5, 5), crew{role: roleFailed, target: 10, have: 6, healthy: 6}), pace{}, []int{10, 0}},
		"what was superseded goes on with what it has": {
			crews(fresh(0, 0), crew{role: roleHolds, target: 10, have: 4, healthy: 4}, serves(6, 6)), pace{surge: 25}, []int{3, 4, 6},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var list []*crew
			for i := range c.crews {
				list = append(list, &c.crews[i])
			}
			share(list, 10, c.pace)
			for i, is := range list {
				if is.count != c.want[i] {
					t.Errorf("crew %d is to have %d replicas, want %d", i, is.count, c.want[i])
				}
			}
		})
	}
}
