package loads

import (
	"fmt"
	"maps"
	"slices"
)

// Version names a deployment version.
type Version struct{ Application, Deployment, Version string }

// Key names the deployment version that the numbers are of.
func (s *Served) Key() Version {
	return Version{Application: s.Application, Deployment: s.Deployment, Version: s.Version}
}

// checkServed looks at all that a report says of how versions served.
func (r *Report) checkServed() error {
	if len(r.Served) > MaxPerProxy {
		return fmt.Errorf("it names %d versions: at most %d are taken", len(r.Served), MaxPerProxy)
	}
	seen := make(map[Version]int, len(r.Served))
	for i := range r.Served {
		s := &r.Served[i]
		if err := s.check(); err != nil {
			return fmt.Errorf("served[%d]: %w", i, err)
		}
		key := s.Key()
		if first, twice := seen[key]; twice {
			return fmt.Errorf("served[%d] and served[%d] are both version %s of %s/%s", first, i, s.Version, s.Application, s.Deployment)
		}
		seen[key] = i
	}
	return nil
}

func (s *Served) check() error {
	for _, name := range [...][2]string{{"application", s.Application}, {"deployment", s.Deployment}, {"version", s.Version}} {
		if err := checkName(name[0], name[1]); err != nil {
			return err
		}
	}
	if err := s.checkNumbers(); err != nil {
		return fmt.Errorf("version %s of %s/%s: %w", s.Version, s.Application, s.Deployment, err)
	}
	return nil
}

func (s *Served) checkNumbers() error {
	if s.Ongoing < 0 || s.Ongoing > MaxRequests {
		return fmt.Errorf("ongoing is %d: it must be from 0 to %v", s.Ongoing, float64(MaxRequests))
	}
	if err := checkShare("errors", s.Errors, "requests", s.Requests); err != nil {
		return err
	}
	if err := checkLatency("latency", s.Latency); err != nil {
		return err
	}
	if s.Shadow == nil {
		return nil
	}
	if err := s.Shadow.check(); err != nil {
		return fmt.Errorf("shadow: %w", err)
	}
	return nil
}

func (s *Shadowed) check() error {
	if s.Dropped > MaxRequests {
		return fmt.Errorf("dropped is %d: it must be at most %v", s.Dropped, float64(MaxRequests))
	}
	if err := checkShare("differing", s.Differing, "requests", s.Requests); err != nil {
		return err
	}
	if err := checkShare("errors", s.Errors, "requests", s.Requests); err != nil {
		return err
	}
	if err := checkLatency("latency", s.Latency); err != nil {
		return err
	}
	return checkLatency("primary", s.Primary)
}

// checkShare holds that a count is within bounds and another one a part of it.
func checkShare(what string, part uint64, of string, whole uint64) error {
	switch {
	case whole > MaxRequests:
		return fmt.Errorf("%s is %d: it must be at most %v", of, whole, float64(MaxRequests))
	case part > whole:
		return fmt.Errorf("%s is %d, of %s, which is %d", what, part, of, whole)
	}
	return nil
}

func checkLatency(what string, buckets map[int]uint64) error {
	for _, bucket := range slices.Sorted(maps.Keys(buckets)) {
		switch n := buckets[bucket]; {
		case bucket < 0 || bucket > LastBucket:
			return fmt.Errorf("%s has a bucket %d: they are 0 to %d", what, bucket, LastBucket)
		case n > MaxRequests:
			return fmt.Errorf("%s[%d] is %d: it must be at most %v", what, bucket, n, float64(MaxRequests))
		}
	}
	return nil
}
