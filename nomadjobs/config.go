package nomadjobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// The items of a user_config's variable beside the config itself. A variable
// without them is somebody else's.
const (
	clusterItem = "serve_cluster_id"
	hashItem    = "hash"
	sumItem     = "sha256" // of the config, as it was written
)

// What the token's policy must hold for user_configs.
const writeConfigs = `namespace "default" { variables { path "` + jobspec.ConfigPrefix + `*" { capabilities = ["list", "read", "write", "destroy"] } } } (or the namespace of the jobs)`

// Configs returns the user_configs that are in Nomad beside the jobs of any
// serve-nomad cluster, by job id. What changed since the last look is read.
// Nomad leaves out, without a word, what the token may not list.
func (c *Client) Configs(ctx context.Context) (map[string]reconcile.Config, error) {
	q, cancel := query(ctx)
	defer cancel()
	list, _, err := c.nomad.Variables().PrefixList(jobspec.ConfigPrefix, q)
	if err != nil {
		return nil, needing(writeConfigs, c.fault("list the user_configs in Nomad's variables", err))
	}
	listed := map[string]uint64{}
	for _, v := range list {
		if id := strings.TrimPrefix(v.Path, jobspec.ConfigPath("")); !strings.Contains(id, "/") {
			listed[id] = v.ModifyIndex
		}
	}
	all, err := c.configs.read(ctx, listed, c.readConfig)
	if err != nil {
		return nil, err
	}
	for id, config := range all {
		if config.ClusterID == "" {
			delete(all, id)
		}
	}
	return all, nil
}

func (c *Client) readConfig(ctx context.Context, jobID string) (reconcile.Config, uint64, error) {
	q, cancel := query(ctx)
	defer cancel()
	v, _, err := c.nomad.Variables().Peek(jobspec.ConfigPath(jobID), q)
	switch {
	case err != nil:
		return reconcile.Config{}, 0, needing(writeConfigs, c.fault("read the user_config of job "+jobID, err))
	case v == nil:
		return reconcile.Config{}, 0, fmt.Errorf("read the user_config of job %s: %w", jobID, ErrNotFound)
	}
	hash := v.Items[hashItem]
	if v.Items[sumItem] != sum(v.Items[jobspec.ConfigItem]) {
		hash = "" // somebody has changed it by hand
	}
	return reconcile.Config{
		ClusterID: v.Items[clusterItem], Hash: hash,
		WrittenAt: time.Unix(0, v.ModifyTime).UTC(), ModifyIndex: v.ModifyIndex,
	}, v.ModifyIndex, nil
}

func sum(config string) string {
	all := sha256.Sum256([]byte(config))
	return hex.EncodeToString(all[:])
}

// WriteConfig puts a user_config beside its job, if the one that is there is
// still at w.ModifyIndex (0: there is none). It returns ErrConflict when it is
// not. Nomad renders it into the files of the job's replicas within a second.
func (c *Client) WriteConfig(ctx context.Context, w reconcile.WriteConfig) error {
	q, cancel := write(ctx)
	defer cancel()
	v := &api.Variable{
		Path: jobspec.ConfigPath(w.JobID), ModifyIndex: w.ModifyIndex,
		Items: api.VariableItems{jobspec.ConfigItem: w.Config, sumItem: sum(w.Config), hashItem: w.Hash, clusterItem: w.ClusterID},
	}
	_, _, err := c.nomad.Variables().CheckedUpdate(v, q) // creates it at index 0
	return c.configFault("write", w.JobID, err)
}

// DropConfig takes a user_config away, if it is still at d.ModifyIndex. It
// returns ErrConflict when it is not. One that is gone is no error.
func (c *Client) DropConfig(ctx context.Context, d reconcile.DropConfig) error {
	q, cancel := write(ctx)
	defer cancel()
	_, err := c.nomad.Variables().CheckedDelete(jobspec.ConfigPath(d.JobID), d.ModifyIndex, q)
	return c.configFault("drop", d.JobID, err)
}

func (c *Client) configFault(verb, jobID string, err error) error {
	if err == nil {
		return nil
	}
	what := verb + " the user_config of job " + jobID
	conflict, ok := errors.AsType[api.ErrCASConflict](err)
	switch {
	case !ok:
		return needing(writeConfigs, c.fault(what, err))
	case verb == "drop" && (conflict.Conflict == nil || conflict.Conflict.ModifyIndex == 0):
		return nil
	case conflict.CheckIndex == 0 && conflict.Conflict != nil && conflict.Conflict.Items[clusterItem] == "":
		return fmt.Errorf("%s: %w: there is a variable at %s that serve-nomad did not write, or may not read; delete it, or let the token's policy hold: %s",
			what, ErrConflict, jobspec.ConfigPath(jobID), writeConfigs)
	default:
		return fmt.Errorf("%s: %w: it is no longer at index %d", what, ErrConflict, conflict.CheckIndex)
	}
}
