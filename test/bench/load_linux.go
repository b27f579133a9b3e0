package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// turn is the load on one address for one turn.
type turn struct {
	address  string
	prefix   string
	dir      string // for files of the load generator
	duration time.Duration
	rate     float64 // requests a second, where it is paced
}

// measured is what a load generator saw.
type measured struct {
	Requests int64         `json:"requests"` // answered with 2xx; events of a stream
	Failed   int64         `json:"failed"`
	Wall     time.Duration `json:"wall_ns"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
}

// wrk loads with wrk: one thread and that many connections, as fast as it goes.
func wrk(connections int, path, script string) func(context.Context, turn) (measured, error) {
	return func(ctx context.Context, t turn) (measured, error) {
		argv := []string{
			"-t1", "-c" + strconv.Itoa(connections), "-d" + wrkDuration(t.duration), "--latency", "--timeout", "10s",
		}
		if script != "" {
			file := filepath.Join(t.dir, "wrk.lua")
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				return measured{}, err
			}
			argv = append(argv, "-s", file)
		}
		out, err := exec.CommandContext(ctx, "wrk", append(argv, "http://"+t.address+t.prefix+path)...).CombinedOutput()
		if err != nil {
			return measured{}, fmt.Errorf("wrk: %w: %s", err, out)
		}
		return parseWrk(string(out))
	}
}

// wrkDuration is a duration as wrk reads it: in whole seconds.
func wrkDuration(d time.Duration) string {
	return strconv.Itoa(max(1, int(d.Round(time.Second)/time.Second))) + "s"
}

// parseWrk reads what wrk prints.
func parseWrk(out string) (measured, error) {
	var m measured
	total := regexp.MustCompile(`(\d+) requests in ([\d.]+\w+),`).FindStringSubmatch(out)
	if total == nil {
		return m, fmt.Errorf("not what wrk prints: %q", out)
	}
	requests, err := strconv.ParseInt(total[1], 10, 64)
	wall, err1 := time.ParseDuration(total[2])
	if err := errors.Join(err, err1); err != nil {
		return m, err
	}
	m.Wall = wall
	for _, p := range []struct {
		pattern string
		into    *time.Duration
	}{{`50%\s+([\d.]+\w+)`, &m.P50}, {`99%\s+([\d.]+\w+)`, &m.P99}} {
		if found := regexp.MustCompile(p.pattern).FindStringSubmatch(out); found != nil {
			if *p.into, err = time.ParseDuration(found[1]); err != nil {
				return m, err
			}
		}
	}
	if odd := regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`).FindStringSubmatch(out); odd != nil {
		m.Failed, _ = strconv.ParseInt(odd[1], 10, 64) // the pattern has digits only
	}
	m.Requests = requests - m.Failed
	for _, n := range regexp.MustCompile(`(?:connect|read|write|timeout) (\d+)`).FindAllStringSubmatch(out, -1) {
		errors, _ := strconv.ParseInt(n[1], 10, 64) // as above
		m.Failed += errors
	}
	return m, nil
}

// h2load loads with h2load over HTTP/2 without TLS, as fast as it goes. more is
// what else it is told.
func h2load(clients, streams int, path string, more ...string) func(context.Context, turn) (measured, error) {
	return func(ctx context.Context, t turn) (measured, error) {
		log := filepath.Join(t.dir, "h2load.log")
		if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
			return measured{}, err
		}
		seconds := strings.TrimSuffix(wrkDuration(t.duration), "s")
		argv := append([]string{
			"-t1", "-c", strconv.Itoa(clients), "-m", strconv.Itoa(streams), "-D", seconds, "--log-file", log,
		}, more...)
		out, err := exec.CommandContext(ctx, "h2load", append(argv, "http://"+t.address+t.prefix+path)...).CombinedOutput()
		if err != nil {
			return measured{}, fmt.Errorf("h2load: %w: %s", err, out)
		}
		m, err := readH2load(log)
		m.Wall = t.duration.Round(time.Second)
		return m, err
	}
}

// readH2load reads h2load's log: of each request the start, the status and the
// time that it took, in microseconds.
func readH2load(path string) (measured, error) {
	var m measured
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	var took []time.Duration
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return m, fmt.Errorf("not what h2load logs: %q", lines.Text())
		}
		us, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return m, err
		}
		if fields[1] != "200" {
			m.Failed++
			continue
		}
		took = append(took, time.Duration(us)*time.Microsecond)
	}
	m.summarise(took)
	return m, lines.Err()
}

// summarise takes over how long each request took.
func (m *measured) summarise(took []time.Duration) {
	slices.Sort(took)
	m.Requests = int64(len(took))
	if len(took) > 0 {
		m.P50, m.P99 = took[len(took)/2], took[len(took)*99/100]
	}
}
