package nomaddev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodepool"
	"github.com/serve-nomad/serve-nomad/nodescale"
)

// nodesDir is where the servers keep the nodes that they make on this machine.
// Its path is short, because Nomad makes sockets below.
func (c *Cluster) nodesDir() string { return filepath.Join(c.Dir, "nodes") }

// stopNodes ends the nodes that the servers have made. They outlive the servers
// that made them, as nodes do, but not the run.
func (c *Cluster) stopNodes(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil // Cleanup kills them
	}
	entries, err := os.ReadDir(c.nodesDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the nodes of worker groups: %w", err)
	}
	targets, err := nodepool.New(nodepool.Config{Process: &nodepool.ProcessConfig{Dir: c.nodesDir()}}, hclog.NewNullLogger())
	if err != nil {
		return fmt.Errorf("stop the nodes of worker groups: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, nodesStop)
	defer cancel()
	errs := make([]error, len(entries))
	var stopping sync.WaitGroup
	told := false
	for i, e := range entries {
		of, ok := blueprintOf(filepath.Join(c.nodesDir(), e.Name()))
		if !ok {
			continue
		}
		if !told {
			c.note("stopping the nodes of worker groups")
			told = true
		}
		stopping.Go(func() { errs[i] = targets.Remove(ctx, of, nodescale.Machine{ID: e.Name()}) })
	}
	stopping.Wait()
	return errors.Join(errs...)
}

// blueprintOf reads in a machine's folder whose it is; false: it is not a
// machine's, or that was just being made.
func blueprintOf(dir string) (nodescale.Blueprint, bool) {
	text, err := os.ReadFile(filepath.Join(dir, "machine.json"))
	if err != nil {
		return nodescale.Blueprint{}, false
	}
	b := nodescale.Blueprint{}
	if err = json.Unmarshal(text, &b); err != nil {
		return b, false
	}
	b.Kind = "process"
	return b, true
}
