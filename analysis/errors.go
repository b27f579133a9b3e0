package analysis

import "fmt"

const (
	// chance is how improbable it must be that a version which is not worse
	// looks like this one. It is judged again and again, so that is not the
	// probability of a false alarm: the tests measure that.
	chance = 0.001
	// chanceOfOld is the same for the question whether the old version was only
	// lucky.
	chanceOfOld = 0.001
	// leastErrors is how many errors it takes. The tests take each request for
	// itself, but a connection that breaks takes several with it.
	leastErrors = 5
	// mostly is the share of failing requests from which on an old version is no
	// measure of a new one that fails altogether.
	mostly = 0.5
)

// judgeErrors finds whether more requests fail than may. The new version is
// worse when errors this many would hardly come
//   - at the rate of the old version plus what is allowed (binomial), and
//   - by chance to the new version, of all that came to both (Fisher): the old
//     version's rate is known from its requests only, and few tell little.
//
// Both tests are exact, and together do what one against the estimated rate
// cannot. An upper confidence bound of that rate (Berger and Boos, 1994) would
// be exact as well, but one error in ten it finds only against many hundreds of
// requests without any; and a rate that is pooled from both versions hides a bad
// one in its own errors. The old version's rate is the higher one of its whole
// window and of the time in which the new one had requests: what befalls both
// is not held against one.
func (p *pair) judgeErrors(limit float64) (worse bool, reason string) {
	n := &p.new
	reason = fmt.Sprintf("%d of %d requests failed (%s)", n.errors, n.requests, percent(n.errors, n.requests))
	rate := max(p.old.rate(), p.beside.rate())
	fails := n.requests >= leastErrors && n.errors == n.requests && rate < mostly
	if p.old.requests == 0 {
		return fails, reason + ", and of the old version none is known to compare with"
	}
	reason += fmt.Sprintf(", of the old version %d of %d (%s); %s",
		p.old.errors, p.old.requests, percent(p.old.errors, p.old.requests), allowedErrors(limit))
	return fails || n.errors >= leastErrors &&
		binomialTail(n.errors, n.requests, rate+limit) < chance &&
		hypergeometricTail(n.errors, n.requests, p.old.errors, p.old.requests) < chanceOfOld, reason
}
