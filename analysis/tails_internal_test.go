package analysis

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// TestTails compares the sums with exact fractions.
func TestTails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, m := rapid.Uint64Range(1, 60).Draw(t, "n"), rapid.Uint64Range(0, 60).Draw(t, "m")
		k, j := rapid.Uint64Range(0, n).Draw(t, "k"), rapid.Uint64Range(0, m).Draw(t, "j")
		percents := rapid.IntRange(1, 99).Draw(t, "percent")
		p := float64(percents) / 100
		same(t, "binomial", binomialTail(k, n, p), exactBinomial(k, n, percents))
		same(t, "hypergeometric", hypergeometricTail(k, n, j, m), exactHypergeometric(k, n, j, m))
		same(t, "excess of nothing", excessTail(k, n, j, m, 0), exactHypergeometric(k, n, j, m))
		want := 0.0
		for e := uint64(0); e <= n; e++ {
			weight := exactBinomial(e, n, percents) - exactBinomial(e+1, n, percents)
			if e >= k {
				want += weight
				continue
			}
			want += weight * hypergeometricTail(k-e, n-e, j, m)
		}
		same(t, "excess", excessTail(k, n, j, m, p), want)
	})
}

// same holds that a tail is what it should be. Of one that is not small it is
// only said that it is not.
func same(t *rapid.T, what string, got, want float64) {
	if got >= 0.4 && want >= 0.25 {
		return
	}
	if math.Abs(got-want) > 1e-9+1e-6*want {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func exactBinomial(k, n uint64, percents int) float64 {
	sum := new(big.Rat)
	p, q := big.NewRat(int64(percents), 100), big.NewRat(int64(100-percents), 100)
	for i := k; i <= n; i++ {
		term := new(big.Rat).SetInt(new(big.Int).Binomial(int64(n), int64(i)))
		term.Mul(term, power(p, i))
		sum.Add(sum, term.Mul(term, power(q, n-i)))
	}
	value, _ := sum.Float64()
	return value
}

func power(x *big.Rat, n uint64) *big.Rat {
	e := big.NewInt(int64(n))
	return new(big.Rat).SetFrac(new(big.Int).Exp(x.Num(), e, nil), new(big.Int).Exp(x.Denom(), e, nil))
}

func exactHypergeometric(k, n, j, m uint64) float64 {
	marked := k + j
	sum := new(big.Int)
	for i := k; i <= min(n, marked); i++ {
		if marked-i > m {
			continue
		}
		term := new(big.Int).Binomial(int64(n), int64(i))
		sum.Add(sum, term.Mul(term, new(big.Int).Binomial(int64(m), int64(marked-i))))
	}
	value, _ := new(big.Rat).SetFrac(sum, new(big.Int).Binomial(int64(n+m), int64(marked))).Float64()
	return value
}

// TestTailsOfVeryManyRequests ends, and is monotone where a sum stands for many.
func TestTailsOfVeryManyRequests(t *testing.T) {
	const n, m = 50_000_000, 2_000_000_000
	before := 1.0
	for k := uint64(1_500_000); k <= 1_520_000; k += 1000 { // of 2 percent that failed before, and 1 percent more
		got := excessTail(k, n, m/50, m, 0.01)
		if got > before || got < 0 {
			t.Errorf("%d errors: %v, and of fewer %v", k, got, before)
		}
		before = got
	}
	if before > 1e-6 {
		t.Errorf("at 3.04 percent it still is %v", before)
	}
}
