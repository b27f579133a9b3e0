// Command serve-nomad-gpu is a device plugin for Nomad: it announces NVIDIA
// GPUs, whole or in slices that several tasks share.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/serve-nomad/serve-nomad/gpuplugin"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// The exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	if gpuplugin.Launched() {
		if err := gpuplugin.Serve(version()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitError)
		}
		return
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program as a person starts it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var (
		s            gpushare.Settings
		believe      string
		slices       int
		list, asJSON bool
		showVersion  bool
	)
	flags := flag.NewFlagSet(gpushare.Plugin, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stdout, help) }
	flags.BoolVar(&showVersion, "version", false, "")
	flags.BoolVar(&list, "list", false, "")
	flags.BoolVar(&asJSON, "json", false, "")
	flags.StringVar(&s.Mode, "mode", "", "")
	flags.StringVar(&s.Sharing, "sharing", "", "")
	flags.IntVar(&slices, "slices", gpushare.DefaultSlices, "")
	flags.StringVar(&believe, "make-believe", "", "")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return exitOK
	} else if err != nil {
		return exitUsage
	}
	switch {
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s takes no arguments, only flags: %q is none; -help lists them\n", gpushare.Plugin, flags.Arg(0))
		return exitUsage
	case showVersion:
		fmt.Fprintln(stdout, gpushare.Plugin, version())
		return exitOK
	case !list:
		fmt.Fprint(stderr, whatThisIs)
		return exitUsage
	}
	s.Slices = &slices
	if believe != "" {
		s.MakeBelieve = map[string]gpushare.PretenceSettings{believe: {}}
	}
	return printList(ctx, s, asJSON, stdout, stderr)
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "dev"
	}
	return info.Main.Version
}
