package placement

// Prices lets the tests of bounds use the linear program. They check what it
// returns, so that the bound holds whatever it is.
func Prices(demand []float64, capacity [][]float64, cost []float64) []float64 {
	var flat []float64
	for _, row := range capacity {
		flat = append(flat, row...)
	}
	return prices(demand, flat, cost)
}
