package analysis

import "fmt"

const (
	// chance is how improbable it must be that a version which is not worse
	// looks like this one. It is judged again and again, so that is not the
	// probability of a false alarm: the tests measure that.
	chance = 0.001
	// suspicion is from which probability on a version that looks like this one is
	// given no larger part of the requests before more is known.
	suspicion = 0.05
	// leastErrors is how many errors it takes. The tests take each request for
	// itself, but a connection that breaks takes several with it.
	leastErrors = 5
	// mostly is the share of failing requests from which on an old version is no
	// measure of a new one that fails altogether.
	mostly = 0.5
)

// judgeErrors finds whether more requests fail than may: the new version is
// worse when errors this many would hardly come
//   - at the rate of the old version and what is allowed (a binomial tail), that
//     rate being the higher one of the old version's whole window and of the
//     time in which the new one had requests: what befalls both is not held
//     against one; and
//   - by chance to the new version, of all that came to both beside what is
//     allowed (excessTail): the old version's rate is known from its requests
//     only, and few tell little.
//
// The second is Fisher's exact test, widened by what is allowed. An upper
// confidence bound of the old rate (Berger and Boos, 1994) would do too, but
// finds one error in ten only against many hundreds of requests without any; and
// a rate that is pooled from both versions hides a bad one in its own errors.
func (p *pair) judgeErrors(limit float64) (worse bool, reason string) {
	n, o := &p.new, &p.old
	reason = fmt.Sprintf("%d of %d requests failed (%s)", n.errors, n.requests, percent(n.errors, n.requests))
	rate := max(o.rate(), p.beside.rate())
	fails := n.requests >= leastErrors && n.errors == n.requests && rate < mostly
	if o.requests == 0 {
		return fails, reason + ", and of the old version none is known to compare with"
	}
	reason += fmt.Sprintf(", of the old version %d of %d (%s); %s",
		o.errors, o.requests, percent(o.errors, o.requests), allowedErrors(limit))
	return fails || n.errors >= leastErrors &&
		binomialTail(n.errors, n.requests, rate+limit) < chance &&
		excessTail(n.errors, n.requests, o.errors, o.requests, limit) < chance, reason
}

// doubtful says whether more requests fail than may, though chance could be why.
// One that fails is none, and neither are two of very many.
func (p *pair) doubtful(limit float64) bool {
	n := &p.new
	rate := max(p.old.rate(), p.beside.rate()) + limit
	return limit >= 0 && n.errors > 1 && n.rate() > rate && binomialTail(n.errors, n.requests, rate) < suspicion
}
