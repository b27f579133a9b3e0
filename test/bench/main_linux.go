package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what a run can be told.
type options struct {
	rounds    int
	duration  time.Duration
	rate      float64
	idle      int
	replicas  int
	peers     []string // empty: all
	scenarios []string // empty: all
	json      string
	profile   string
	keep      string
}

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], childPrefix) {
		exit(runChild(os.Args[1], os.Args[2:]))
	}
	o, err := parseOptions(os.Args[1:])
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, o, os.Stdout, os.Stderr))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "`number` of rounds; in each, every proxy has its turn in every scenario")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "`time` of one turn")
	f.Float64Var(&o.rate, "rate", 5000, "requests a second where the load is paced")
	f.IntVar(&o.idle, "idle", 10000, "`number` of idle clients whose memory is measured")
	f.IntVar(&o.replicas, "replicas", 1000, "`number` of replicas whose memory is measured")
	peers := f.String("proxies", "", "`names`, separated by commas: "+strings.Join(peerNames(), ", ")+"; all if empty")
	scenarios := f.String("scenarios", "", "`names`, separated by commas: "+strings.Join(scenarioNames(), ", ")+"; all if empty")
	f.StringVar(&o.json, "json", "", "`file` to write every sample to")
	f.StringVar(&o.profile, "profile", "", "`folder` to write CPU profiles of our own proxy to, one for each scenario")
	f.StringVar(&o.keep, "keep", "", "`folder` to keep the proxies' configurations and output in")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.peers, err = choose(*peers, peerNames()); err == nil {
		o.scenarios, err = choose(*scenarios, scenarioNames())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	return o, err
}

// choose returns the names in list; all of them where list is empty.
func choose(list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no %q; there are %s", name, strings.Join(all, ", "))
		}
	}
	return names, nil
}

// run measures what o asks for and writes tables to out; notes go to the log.
func run(ctx context.Context, o options, out, log io.Writer) error {
	b, err := newBench(ctx, o, log)
	if err != nil {
		return err
	}
	defer b.close()
	var results []result
	for _, s := range scenarios() {
		if !slices.Contains(o.scenarios, s.name) {
			continue
		}
		r, err := b.measure(ctx, s)
		if err != nil {
			return err
		}
		if len(r.Rows) > 0 {
			results = append(results, r)
			writeTable(out, r)
		}
	}
	if o.json == "" {
		return nil
	}
	return writeJSON(o.json, results)
}
