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

// hypergeometricTail returns the probability that, of all the errors in two
// samples, at least k fall into the first one, if they fall where they may: that
// is Fisher's exact test that the first one's rate is not the higher one.
func hypergeometricTail(k, n, j, m uint64) float64 {
	errors, all := k+j, n+m
	switch {
	case k == 0:
		return 1
	case float64(k)*float64(all) <= float64(errors)*float64(n):
		return 0.5
	}
	most := min(n, errors)
	term := math.Exp(logChoose(n, k) + logChoose(m, j) - logChoose(all, errors))
	return sumTail(term, most-k, func(i float64) float64 {
		in, out := float64(k)+i, float64(j)-i // errors in the first sample, and in the second
		return (float64(n) - in) / (in + 1) * out / (float64(m) - out + 1)
	})
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
