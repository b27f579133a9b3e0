package nodescale

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Bounds on a load that is read.
const (
	maxSimLines    = 1_000_000
	maxSimLine     = 4096 // bytes
	maxSimSeconds  = 366 * 86400
	maxSimReplicas = 1_000_000 // of one job
)

// ReadSimLoad reads a load: a JSON object a line, {"at": 60, "job": "ranker",
// "replicas": 12}, with at in seconds. find gives the id of the job that a name
// stands for. An error names the line.
func ReadSimLoad(r io.Reader, find func(name string) (string, error)) ([]SimDemand, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, maxSimLine), maxSimLine)
	var load []SimDemand
	number := 0
	for scanner.Scan() {
		number++
		text := bytes.TrimSpace(bytes.TrimPrefix(scanner.Bytes(), []byte("\xef\xbb\xbf"))) // without a byte order mark
		if len(text) == 0 {
			continue
		}
		if number > maxSimLines {
			return nil, fmt.Errorf("line %d: a load has at most %d lines", number, maxSimLines)
		}
		d, err := readSimDemand(text)
		if err == nil {
			d.Job, err = find(d.Job)
		}
		if err == nil && len(load) > 0 && d.At < load[len(load)-1].At {
			err = fmt.Errorf("at goes back, from %g to %g", load[len(load)-1].At.Seconds(), d.At.Seconds())
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		load = append(load, d)
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d: it is longer than %d bytes", number+1, maxSimLine)
	case err != nil:
		return nil, err
	case len(load) == 0:
		return nil, errors.New(`the load is empty: it needs lines such as {"at": 0, "job": "ranker", "replicas": 4}`)
	}
	return load, nil
}

func readSimDemand(text []byte) (SimDemand, error) {
	var line struct {
		At       *float64 `json:"at"`
		Job      string   `json:"job"`
		Replicas *int     `json:"replicas"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&line); err != nil {
		return SimDemand{}, fmt.Errorf(`%w: a line is such as {"at": 60, "job": "ranker", "replicas": 12}`, err)
	}
	switch {
	case decoder.More():
		return SimDemand{}, errors.New("something comes after the object: each has a line of its own")
	case line.At == nil || line.Job == "" || line.Replicas == nil:
		return SimDemand{}, errors.New("at, job and replicas are all needed")
	case *line.At < 0 || *line.At > maxSimSeconds:
		return SimDemand{}, fmt.Errorf("at must be 0 to %d seconds, not %g", maxSimSeconds, *line.At)
	case *line.Replicas < 0 || *line.Replicas > maxSimReplicas:
		return SimDemand{}, fmt.Errorf("replicas must be 0 to %d, not %d", maxSimReplicas, *line.Replicas)
	}
	return SimDemand{time.Duration(*line.At * float64(time.Second)), line.Job, *line.Replicas}, nil
}

// SimWave is demand that goes up and down between low and high once in each
// period, from low, as a day does.
func SimWave(job string, low, high int, period, step, until time.Duration) []SimDemand {
	return simSteps(job, step, until, func(at time.Duration) int {
		phase := 2 * math.Pi * at.Seconds() / period.Seconds()
		return low + int(math.Round(float64(high-low)*(1-math.Cos(phase))/2))
	})
}

// SimBursts is demand that stands at low and now and then, every so often in
// the mean, jumps to high for a while.
func SimBursts(chance *rand.Rand, job string, low, high int, every, lasts, until time.Duration) []SimDemand {
	load := []SimDemand{{0, job, low}}
	for at := time.Duration(0); ; {
		at += time.Duration(chance.ExpFloat64() * float64(every))
		if at+lasts >= until {
			return load
		}
		load = append(load, SimDemand{at, job, high}, SimDemand{at + lasts, job, low})
		at += lasts
	}
}

// SimWalk is demand that goes up or down by at most so much each step, between
// low and high, from the middle.
func SimWalk(chance *rand.Rand, job string, low, high, most int, step, until time.Duration) []SimDemand {
	now := (low + high) / 2
	return simSteps(job, step, until, func(time.Duration) int {
		was := now
		now = min(high, max(low, now+chance.IntN(2*most+1)-most))
		return was
	})
}

func simSteps(job string, step, until time.Duration, replicas func(time.Duration) int) []SimDemand {
	var load []SimDemand
	for at := time.Duration(0); at < until; at += max(step, time.Millisecond) {
		if n := replicas(at); len(load) == 0 || load[len(load)-1].Replicas != n {
			load = append(load, SimDemand{at, job, n})
		}
	}
	return load
}

// SimTogether puts several loads in the order of time.
func SimTogether(loads ...[]SimDemand) []SimDemand {
	all := slices.Concat(loads...)
	slices.SortStableFunc(all, func(a, b SimDemand) int { return cmp.Compare(a.At, b.At) })
	return all
}
