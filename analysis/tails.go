package analysis

import "math"

// The tails here are summed term by term and exact to the precision of their
// numbers: an approximation by the normal distribution is wrong by orders of
// magnitude where a handful of errors is to decide.

// binomialTail returns the probability of at least k successes in n tries that
// each succeed with probability p.
func binomialTail(k, n uint64, p float64) float64 {
	switch {
	case k == 0 || p >= 1:
		return 1
	case k > n || p <= 0:
		return 0
	case float64(k) <= p*float64(n): // near the middle; nobody needs to know how near
		return 0.5
	}
	// Each term is smaller than the one before: k is above the mean.
	term := math.Exp(logChoose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	return sumTail(term, n-k, func(i float64) float64 {
		return (float64(n-k) - i) / (float64(k) + i + 1) * (p / (1 - p))
	})
}

// hypergeometricTail returns the probability that, of the k+j that stand out in
// two samples of n and m, at least k fall into the first one, if they fall where
// they may: that is Fisher's exact test.
func hypergeometricTail(k, n, j, m uint64) float64 {
	marked, all := k+j, n+m
	switch {
	case k == 0:
		return 1
	case float64(k)*float64(all) <= float64(marked)*float64(n):
		return 0.5
	}
	most := min(n, marked)
	term := math.Exp(logChoose(n, k) + logChoose(m, j) - logChoose(all, marked))
	return sumTail(term, most-k, func(i float64) float64 {
		in, out := float64(k)+i, float64(j)-i // that stand out in the first sample, and in the second
		return (float64(n) - in) / (in + 1) * out / (float64(m) - out + 1)
	})
}

// excessTail returns about how probable it is that k or more of n requests fail
// by chance, when of another version j of m did and a share of allowed may fail
// beyond that. Each way in which the n share out to what is allowed and to the
// rest is tested for the rest by hypergeometricTail, and counts as much as it is
// probable. So it is Fisher's test where nothing more is allowed, and against
// very many requests the binomial test of the rate and what is allowed.
func excessTail(k, n, j, m uint64, allowed float64) float64 {
	switch {
	case k == 0 || allowed >= 1:
		return 1
	case allowed <= 0:
		return hypergeometricTail(k, n, j, m)
	}
	const (
		reach = 8   // standard deviations
		steps = 500 // at most: with very many requests one stands for its neighbours
	)
	mean := float64(n) * allowed
	spread := reach * (math.Sqrt(mean) + 1)
	from, to := uint64(max(0, mean-spread)), min(uint64(mean+spread), k-1)
	step := max(1, (to-min(from, to))/steps)
	sum, weights := 0.0, 0.0
	for e := from; e <= to; e += step {
		weight := float64(step) * math.Exp(logChoose(n, e)+float64(e)*math.Log(allowed)+float64(n-e)*math.Log1p(-allowed))
		sum += weight * hypergeometricTail(k-e, n-e, j, m)
		weights += weight
	}
	return min(1, sum+max(0, 1-weights)) // the others are enough by themselves
}

// sumTail adds up to more further terms to term; ratio is that of the term after
// the i-th to the i-th. They become smaller, so it ends where no more counts.
func sumTail(term float64, more uint64, ratio func(i float64) float64) float64 {
	const precision = 1e-12
	sum := term
	for i := range more {
		term *= ratio(float64(i))
		sum += term
		if term <= precision*sum {
			break
		}
	}
	return min(sum, 1)
}

func logChoose(n, k uint64) float64 {
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

func logFactorial(n uint64) float64 {
	value, _ := math.Lgamma(float64(n) + 1)
	return value
}
