package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/serve-nomad/serve-nomad/gpuplugin"
	"github.com/serve-nomad/serve-nomad/gpushare"
)

// printList prints what the plugin would announce here.
func printList(ctx context.Context, s gpushare.Settings, asJSON bool, stdout, stderr io.Writer) int {
	host, _ := os.Hostname() // it only seeds make-believe GPUs
	listing, err := gpuplugin.List(ctx, s, host)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		if err = encoder.Encode(listing); err != nil {
			fmt.Fprintln(stderr, err)
			return exitError
		}
		return exitOK
	}
	printText(stdout, listing)
	return exitOK
}

func printText(w io.Writer, listing gpuplugin.Listing) {
	if listing.Absent != "" {
		fmt.Fprintf(w, "The NVIDIA driver does not answer: %s\n\n", listing.Absent)
	}
	fmt.Fprintln(w, "GPUs")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range listing.GPUs {
		model := g.Model
		if g.MIG != "" {
			model += " MIG " + g.MIG
		}
		fmt.Fprintf(table, "  %d\t%s\t%d MiB\t%s\t%s\t%s\n", g.Index, model, g.MemoryMiB, g.UUID, g.PCI, health(g.Trouble))
	}
	table.Flush() //nolint:errcheck // as with the other lines
	if len(listing.GPUs) == 0 {
		fmt.Fprintln(w, "  none")
	}
	for _, group := range listing.Groups {
		fmt.Fprintf(w, "\n%s/%s/%s: %d of them\n", gpushare.Vendor, group.Type, group.Name, len(group.Instances))
		for _, instance := range group.Instances {
			fmt.Fprintf(w, "  %s  %s\n", instance.ID, health(instance.Trouble))
		}
		for _, name := range slices.Sorted(maps.Keys(group.Attributes)) {
			a := group.Attributes[name]
			fmt.Fprintf(w, "    %s = %v %s\n", name, a.Value, a.Unit)
		}
	}
	for _, problem := range listing.Problems {
		fmt.Fprintf(w, "\nProblem: %s\n", problem)
	}
}

func health(trouble string) string {
	if trouble == "" {
		return "healthy"
	}
	return "unhealthy: " + trouble
}
