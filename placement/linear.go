package placement

import "math"

// prices solves the linear program behind packing: nodes of several kinds with
// a cost and a capacity each, in fractions, that together have what is asked
// for. It returns what one unit of each resource is worth then: no node's
// capacity is worth more than the node costs, and what is asked for is worth
// what the cheapest nodes cost. So that sum is a lower bound of the cost, and
// replicas can be weighed by their worth. A resource that no node has, or that
// there is more than enough of, is worth nothing.
//
// The capacity of one kind of node follows that of another.
//
// It is the simplex method on the dual, which begins at no price at all.
func prices(demand, capacity, cost []float64) []float64 {
	m := len(demand)
	t := newTableau(demand, capacity, cost)
	for range 50 * (m + 1) {
		enter := t.enter()
		if enter < 0 {
			break
		}
		leave := t.leave(enter)
		if leave < 0 {
			break // no node has it
		}
		t.pivot(leave, enter)
	}
	worth := make([]float64, m)
	for i, v := range t.basic {
		if v < m {
			worth[v] = max(0, t.rows[i][m])
		}
	}
	return worth
}

// tableau has one row for each kind of node, one column for each resource, the
// right side last; the goal is a row of its own.
type tableau struct {
	rows  [][]float64
	goal  []float64
	basic []int // row -> variable: a resource's price, or m + the slack of a kind of node
	other []int // column -> variable
}

func newTableau(demand, capacity, cost []float64) *tableau {
	m := len(demand)
	t := &tableau{goal: make([]float64, m+1), basic: make([]int, len(cost)), other: make([]int, m)}
	for d := range m {
		t.goal[d], t.other[d] = demand[d], d
	}
	all := make([]float64, len(cost)*(m+1))
	t.rows = make([][]float64, len(cost))
	for i, c := range cost {
		row := all[i*(m+1) : (i+1)*(m+1)]
		copy(row, capacity[i*m:(i+1)*m])
		row[m] = c
		t.rows[i], t.basic[i] = row, m+i
	}
	return t
}

const tiny = 1e-9

func (t *tableau) enter() int {
	best, at := tiny, -1
	for d := range t.other {
		if t.goal[d] > best {
			best, at = t.goal[d], d
		}
	}
	return at
}

func (t *tableau) leave(enter int) int {
	best, at := math.Inf(1), -1
	for i, row := range t.rows {
		if row[enter] > tiny {
			if ratio := row[len(row)-1] / row[enter]; ratio < best {
				best, at = ratio, i
			}
		}
	}
	return at
}

func (t *tableau) pivot(r, c int) {
	row := t.rows[r]
	p := 1 / row[c]
	for j := range row {
		row[j] *= p
	}
	row[c] = p
	for i := range t.rows {
		if i != r {
			subtract(t.rows[i], row, c)
		}
	}
	subtract(t.goal, row, c)
	t.basic[r], t.other[c] = t.other[c], t.basic[r]
}

// subtract clears column c of a row by a pivot row.
func subtract(row, pivot []float64, c int) {
	f := row[c]
	if f == 0 {
		return
	}
	row[c] = 0
	for j := range row {
		row[j] -= f * pivot[j]
	}
}
