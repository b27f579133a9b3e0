package main

import (
	"context"

	"github.com/serve-nomad/serve-nomad/api"
)

// deletion is what the commands that delete something have in common.
type deletion struct {
	*command
	message string
	detach  bool
}

func (d *deletion) register() {
	d.flags.StringVar(&d.message, "message", "", "`Text` for the record: why.")
	d.flags.BoolVar(&d.detach, "detach", false, "Return when the deletion is recorded, and do not wait for its end.")
}

func (d *deletion) request() api.DeleteRequest {
	return api.DeleteRequest{Message: d.message, By: d.by()}
}

// deleted is something whose deletion is recorded.
type deleted struct {
	name   string // "Application search"
	follow string // the command line that shows what is left of it
	answer any    // of the write

	// look says what is left of it, "" for what is not worth a line, and the
	// index for the next look. Not found is the end.
	look func(context.Context, api.Query) (left string, index uint64, err error)
}

// end waits until what was deleted is gone, unless nobody wants to wait, and
// says so.
func (d *deletion) end(ctx context.Context, of deleted) error {
	if !d.detach {
		if err := d.waitUntilGone(ctx, of); err != nil {
			if ctx.Err() != nil {
				d.errorf("Interrupted: the deletion goes on at the server. Follow it: %s", of.follow)
				return exitWith(exitStopped)
			}
			return err
		}
	}
	switch {
	case d.json:
		d.printJSON(of.answer)
	case d.detach:
		d.printf("%s is being deleted. Follow it: %s\n", of.name, of.follow)
	default:
		d.printf("%s is gone.\n", of.name)
	}
	return nil
}

func (d *deletion) waitUntilGone(ctx context.Context, of deleted) error {
	var query api.Query
	last := ""
	for {
		left, index, err := of.look(ctx, query)
		if api.CodeNotFound.Is(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if left != "" && left != last && !d.json {
			d.printf("  %s\n", left)
			last = left
		}
		query.Index = index
	}
}

// deployedAgain is why a deletion does not come to its end.
func deployedAgain(what string) error {
	return &api.Error{Code: api.CodeConflict, Message: what + " was deployed again while it was being deleted"}
}
