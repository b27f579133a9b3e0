package nomadjobs

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// What the token's policies must hold, as they would be written there.
const (
	readAllJobs = `namespace "*" { capabilities = ["read-job"] }`
	readPools   = `node_pool "*" { policy = "read" }`
	writePools  = `node_pool "*" { policy = "write" }`
	readNodes   = `node { policy = "read" }`
	writeNodes  = `node { policy = "write" }`
)

// needing adds to an error what the token's policy lacks, if that is the error.
func needing(policy string, err error) error {
	if errors.Is(err, ErrForbidden) {
		return fmt.Errorf("%w; its policy needs: %s", err, policy)
	}
	return err
}

// seesAll is nil if the token may read the jobs of every namespace. Nomad
// leaves out the allocations of those that it may not read, without a word, and
// the nodes that they run on would look emptier than they are.
func (c *Client) seesAll(ctx context.Context) error {
	q, cancel := query(ctx)
	defer cancel()
	self, _, err := c.nomad.ACLTokens().Self(q)
	switch {
	case err != nil && strings.Contains(err.Error(), "ACL support disabled"):
		return nil
	case err == nil && (self.AccessorID == "acls-disabled" || self.Type == "management"):
		return nil
	case err != nil && !errors.Is(c.fault("", err), ErrNotFound): // a workload's identity is no token
		return c.fault("read Nomad's token", err)
	}
	listed := map[string]uint64{}
	stubs, _, err := c.nomad.ACLPolicies().List(q)
	if err != nil {
		return c.fault("list the policies of Nomad's token", err)
	}
	for _, stub := range stubs {
		listed[stub.Name] = stub.ModifyIndex
	}
	policies, err := c.policies.read(ctx, listed, c.readPolicy)
	if err != nil {
		return err
	}
	if hidden := hiddenFrom(policies); hidden != "" {
		return needing(readAllJobs, fmt.Errorf("list the allocations of all namespaces: %w: those of namespace %q are hidden", ErrForbidden, hidden))
	}
	return nil
}

// policy is an ACL policy as Nomad has parsed it.
type policy struct {
	ModifyIndex uint64
	RulesJSON   *struct {
		Namespaces []struct {
			Name         string
			Capabilities []string // also those that Policy stands for
		}
	}
}

func (c *Client) readPolicy(ctx context.Context, name string) (policy, uint64, error) {
	q, cancel := query(ctx)
	defer cancel()
	var p policy
	_, err := c.nomad.Raw().Query("/v1/acl/policy/"+url.PathEscape(name), &p, q)
	return p, p.ModifyIndex, c.fault("read policy "+name+" of Nomad's token", err)
}

// hiddenFrom names a namespace, or a pattern of them, whose jobs a token with
// these policies may not read; "": there is none. Of the rules for one pattern
// each grants, and a single "deny" takes all away. A Nomad that does not say how
// it has read a policy is too old to be asked, and counts as one that forbids.
func hiddenFrom(policies map[string]policy) string {
	granted := map[string][]string{"*": nil}
	for _, p := range policies {
		if p.RulesJSON == nil {
			continue
		}
		for _, n := range p.RulesJSON.Namespaces {
			granted[n.Name] = append(granted[n.Name], n.Capabilities...)
		}
	}
	var hidden []string
	for name, capabilities := range granted {
		if !slices.Contains(capabilities, "read-job") || slices.Contains(capabilities, "deny") {
			hidden = append(hidden, name)
		}
	}
	slices.Sort(hidden)
	if len(hidden) == 0 {
		return ""
	}
	return hidden[0]
}
