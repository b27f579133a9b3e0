package loads

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// tolerance is how far a mean may lie outside its smallest and largest, as a
// share of them: it was divided and they were not.
const tolerance = 1e-6

// Check says what is wrong with a report. One that is wrong anywhere is to be
// used nowhere: its other numbers come from the same hand.
func (r *Report) Check() error {
	if r.Schema != Schema {
		return fmt.Errorf("schema is %d, this server reads %d: run the same release of serve-nomad as server and as proxy", r.Schema, Schema)
	}
	if err := checkName("proxy", r.Proxy); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("proxy %q: %w", r.Proxy, err)
	}
	return nil
}

// check looks at all that comes after the proxy's name.
func (r *Report) check() error {
	switch {
	case r.Incarnation <= 0:
		return fmt.Errorf("incarnation is %d: it must be when the process began, in ns since 1970", r.Incarnation)
	case r.Sequence == 0:
		return errors.New("sequence is 0: the first report has 1")
	case r.After >= r.Sequence:
		return fmt.Errorf("after is %d: it must be below its sequence, which is %d", r.After, r.Sequence)
	case !r.Ready && len(r.Deployments) > 0:
		return fmt.Errorf("it names %d deployments and is not ready: without a routing table it cannot know of any", len(r.Deployments))
	case len(r.Deployments) > MaxPerProxy:
		return fmt.Errorf("it names %d deployments: at most %d are taken", len(r.Deployments), MaxPerProxy)
	}
	if err := checkSpan("covers", r.Covers); err != nil {
		return err
	}
	if err := checkSpan("next", r.Next); err != nil {
		return err
	}
	for i := range r.Deployments {
		if err := r.Deployments[i].check(); err != nil {
			return fmt.Errorf("deployments[%d]: %w", i, err)
		}
	}
	if err := r.checkDuplicates(); err != nil {
		return err
	}
	return r.checkServed()
}

func (d *Deployment) check() error {
	if err := checkName("application", d.Application); err != nil {
		return err
	}
	if err := checkName("deployment", d.Deployment); err != nil {
		return err
	}
	if err := d.checkNumbers(); err != nil {
		return fmt.Errorf("%s/%s: %w", d.Application, d.Deployment, err)
	}
	return nil
}

func (d *Deployment) checkNumbers() error {
	numbers := [...]struct {
		name  string
		value float64
	}{
		{"ongoing", float64(d.Ongoing)},
		{"queued", float64(d.Queued)},
		{"ongoing and queued", float64(d.Ongoing) + float64(d.Queued)},
		{"mean", d.Mean},
		{"max", d.Max},
		{"min", d.Min},
	}
	for _, n := range numbers {
		if !(n.value >= 0 && n.value <= MaxRequests) { // false of NaN too
			return fmt.Errorf("%s is %v: it must be from 0 to %v", n.name, n.value, float64(MaxRequests))
		}
	}
	if slack := tolerance * d.Max; d.Min > d.Mean+slack || d.Mean > d.Max+slack || d.Min > d.Max {
		return fmt.Errorf("min is %v, mean %v and max %v: they must be in this order", d.Min, d.Mean, d.Max)
	}
	return nil
}

// checkDuplicates finds a deployment that is named twice. Where the names are in
// order, each needs only be compared with the one before.
func (r *Report) checkDuplicates() error {
	ordered := true
	for i := 1; i < len(r.Deployments) && ordered; i++ {
		ordered = r.Deployments[i-1].Key().compare(r.Deployments[i].Key()) < 0
	}
	if ordered {
		return nil
	}
	seen := make(map[Key]int, len(r.Deployments))
	for i := range r.Deployments {
		key := r.Deployments[i].Key()
		if first, twice := seen[key]; twice {
			return fmt.Errorf("deployments[%d] and deployments[%d] are both %s/%s", first, i, key.Application, key.Deployment)
		}
		seen[key] = i
	}
	return nil
}

// Key names the deployment that the numbers are of.
func (d *Deployment) Key() Key {
	return Key{Application: d.Application, Deployment: d.Deployment}
}

func (k Key) compare(other Key) int {
	if c := strings.Compare(k.Application, other.Application); c != 0 {
		return c
	}
	return strings.Compare(k.Deployment, other.Deployment)
}

// checkName takes any name that a person can read in a log: what names are
// valid is for others to say.
func checkName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s has no name", what)
	case len(name) > MaxName:
		return fmt.Errorf("%s has a name of %d bytes: at most %d are taken", what, len(name), MaxName)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return fmt.Errorf("%s has a name that cannot be printed: %s", what, strconv.QuoteToASCII(name))
	}
	return nil
}

func checkSpan(what string, d time.Duration) error {
	if d < 0 || d > MaxCovers {
		return fmt.Errorf("%s is %s: it must be from 0 to %s", what, d, MaxCovers)
	}
	return nil
}
