package nodepool

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

// Config says which kinds of target this server has.
type Config struct {
	// Process is nil where no nodes are to be made on the server's own machine.
	// Whoever may run a job can run a program on such a node, as the server's
	// user.
	Process *ProcessConfig

	// Plugin is nil where there are no target plugins of the Nomad Autoscaler.
	// Whoever may deploy gives them their configuration, not their programs.
	Plugin *PluginConfig

	// AllowExec lets worker groups name a command that the server runs as its
	// own user. Whoever may deploy can then run a program there.
	AllowExec bool
}

// Targets hands each worker group to the target of its kind.
type Targets struct {
	kinds map[string]Target
}

// New returns the targets that a server has.
func New(c Config, log hclog.Logger) (*Targets, error) {
	t := &Targets{kinds: map[string]Target{
		"none":    refusal("it only tells what it would do"),
		"exec":    refusal("the servers run no commands unless nodes.allow_exec = true is in their configuration"),
		"process": refusal("the servers make no nodes on their own machine unless nodes.process.enabled = true is in their configuration"),
		"plugin":  refusal("the servers have no plugins unless nodes.plugin_dir is in their configuration"),
	}}
	if c.AllowExec {
		t.kinds["exec"] = &execTarget{grace: execGrace, log: log.Named("exec")}
	}
	if c.Process != nil {
		p, err := newProcess(*c.Process, log.Named("process"))
		if err != nil {
			return nil, err
		}
		t.kinds["process"] = p
	}
	if c.Plugin != nil {
		t.kinds["plugin"] = newPlugin(*c.Plugin, log.Named("plugin"))
	}
	return t, nil
}

// Close ends what the targets run for themselves. Nodes stay.
func (t *Targets) Close() error {
	var errs []error
	for _, target := range t.kinds {
		if c, ok := target.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Launch makes a machine by the target of its group.
func (t *Targets) Launch(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (string, error) {
	target, err := t.of(b)
	if err != nil {
		return "", err
	}
	instance, err := target.Launch(ctx, b, m)
	return instance, told(b, err)
}

// Remove removes a machine by the target of its group.
func (t *Targets) Remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error {
	target, err := t.of(b)
	if err != nil {
		return err
	}
	return told(b, target.Remove(ctx, b, m))
}

// List says which machines of a group there are.
func (t *Targets) List(ctx context.Context, b nodescale.Blueprint) (nodescale.Listing, error) {
	target, err := t.of(b)
	if err != nil {
		return nodescale.Listing{}, err
	}
	listing, err := target.List(ctx, b)
	return listing, told(b, err)
}

func (t *Targets) of(b nodescale.Blueprint) (Target, error) {
	if target := t.kinds[b.Kind]; target != nil {
		return target, nil
	}
	return nil, fmt.Errorf("worker group %s: there is no target %q: want process, plugin, exec or none", b.Group, b.Kind)
}

// told says which target it was that failed; what was asked of it, and for which
// machine, the caller knows.
func told(b nodescale.Blueprint, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("target %s: %w", b.Kind, err)
}

// refusal is the target that does nothing, and says why.
type refusal string

func (r refusal) err() error { return fmt.Errorf("%w: %w", ErrNotSupported, errors.New(string(r))) }

// Launch makes nothing.
func (r refusal) Launch(context.Context, nodescale.Blueprint, nodescale.Machine) (string, error) {
	return "", r.err()
}

// Remove removes nothing.
func (r refusal) Remove(context.Context, nodescale.Blueprint, nodescale.Machine) error {
	return r.err()
}

// List does not say that there is nothing: it is not known.
func (r refusal) List(context.Context, nodescale.Blueprint) (nodescale.Listing, error) {
	return nodescale.Listing{}, r.err()
}
