package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

const (
	settleFirst   = 200 * time.Millisecond // between looks at the peers, doubled each time
	settleLongest = 3 * time.Second
	settleRemind  = 30 * time.Second // between two log lines that say the same
)

// settle brings this server into its cluster: it founds one together with its
// peers, or joins the one that they have. It ends when this server is a member.
//
// Only a server without state founds anything, and only when every peer has
// answered and none has state either: an empty disk among peers that cannot be
// asked may belong to a cluster that lives.
func (n *Node) settle(ctx context.Context) {
	wait, said, saidAt := settleFirst, "", time.Time{}
	for {
		err := n.settleOnce(ctx)
		if err == nil {
			return
		}
		if what := err.Error(); ctx.Err() == nil && (what != said || time.Since(saidAt) > settleRemind) {
			n.logger.Info("not a member of a cluster yet", "waiting_for", what)
			said, saidAt = what, time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			wait = min(2*wait, settleLongest)
		}
	}
}

// settleOnce takes the next step. nil: this server is a member; otherwise the
// error says what is being waited for.
func (n *Node) settleOnce(ctx context.Context) error {
	if n.hasState() {
		if err := n.outside.dir.markMember(); err != nil {
			return err
		}
	}
	switch me, found := n.self(); {
	case found && string(me.Address) == n.cfg.Advertise:
		return nil
	case !found && n.hasState() && len(n.Peers()) > 0:
		return errors.New("somebody: this server was taken out of the cluster; to join again, start it with an empty data directory")
	case found && n.IsLeader():
		return n.move(ctx)
	}
	known, missing := n.lookAround(ctx)
	for _, peer := range known {
		if peer.HasState {
			return n.join(ctx, known)
		}
	}
	switch {
	case n.hasState():
		return errors.New("the leader, to tell it this server's new address")
	case n.cfg.BootstrapExpect == 0:
		return errors.New("a peer that is part of a cluster, to join it (bootstrap_expect is 0)")
	case len(missing) > 0:
		return fmt.Errorf("an answer from %s", strings.Join(missing, "; "))
	}
	return n.found(known)
}

// lookAround asks every peer who it is. Those that answer are known by id, this
// server left out.
func (n *Node) lookAround(ctx context.Context) (known map[string]identity, missing []string) {
	known = map[string]identity{}
	for _, address := range n.cfg.Peers {
		if address == n.cfg.Advertise {
			continue
		}
		peer, err := n.askIdentity(ctx, address)
		switch {
		case err != nil:
			missing = append(missing, fmt.Sprintf("%s (%s)", address, err))
		case peer.ID != n.id:
			known[peer.ID] = peer
		}
	}
	return known, missing
}

// found founds the cluster. Each of the founders does, with the same servers;
// raft lets that be.
func (n *Node) found(known map[string]identity) error {
	if len(known)+1 != n.cfg.BootstrapExpect {
		return fmt.Errorf("as many servers as bootstrap_expect says: it is %d, but peers names %d with this one",
			n.cfg.BootstrapExpect, len(known)+1)
	}
	servers := []raft.Server{{ID: raft.ServerID(n.id), Address: raft.ServerAddress(n.cfg.Advertise)}}
	for _, peer := range known {
		if peer.BootstrapExpect != 0 && peer.BootstrapExpect != n.cfg.BootstrapExpect {
			return fmt.Errorf("the same bootstrap_expect on all servers: here it is %d, on %s %d",
				n.cfg.BootstrapExpect, peer.Address, peer.BootstrapExpect)
		}
		servers = append(servers, raft.Server{ID: raft.ServerID(peer.ID), Address: raft.ServerAddress(peer.Address)})
	}
	slices.SortFunc(servers, func(a, b raft.Server) int { return strings.Compare(string(a.ID), string(b.ID)) })
	err := n.raft.BootstrapCluster(raft.Configuration{Servers: servers}).Error()
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("found the cluster: %w", err)
	}
	if err == nil {
		n.logger.Info("founded the cluster", "servers", len(servers))
	}
	return errors.New("the cluster's first log entries")
}

// join asks the leader that the peers know of to take this server in.
func (n *Node) join(ctx context.Context, known map[string]identity) error {
	address := ""
	for _, peer := range known {
		if peer.LeaderAddress != "" {
			address = peer.LeaderAddress
		}
	}
	if address == "" {
		return errors.New("the cluster to have a leader, to join it")
	}
	if err := n.askJoin(ctx, address); err != nil {
		return fmt.Errorf("leave to join the cluster: %w", err)
	}
	return errors.New("the cluster's log from its leader, " + address)
}

// move tells the cluster, which this server leads, that it has a new address.
func (n *Node) move(ctx context.Context) error {
	err := n.await(ctx, func() raft.Future {
		return n.raft.AddVoter(raft.ServerID(n.id), raft.ServerAddress(n.cfg.Advertise), 0, enqueueTimeout)
	})
	if err != nil {
		return changeError("change this server's address", err)
	}
	return nil
}

// admit makes a server a voter of the cluster that this server leads. One that
// comes back to its address with another id has lost its disk: the old id goes
// first, so that the majority is counted among servers that exist.
func (n *Node) admit(ctx context.Context, in joinRequest) error {
	if !n.IsLeader() {
		return ErrNotLeader
	}
	if err := checkAddress(in.Address); err != nil {
		return fmt.Errorf("address %q: %w", in.Address, err)
	}
	if err := n.checkJoiner(ctx, in); err != nil {
		return err
	}
	configuration := n.raft.GetConfiguration()
	index := configuration.Index()
	for _, s := range configuration.Configuration().Servers {
		same := string(s.ID) == in.ID
		switch {
		case same && string(s.Address) == in.Address && s.Suffrage == raft.Voter:
			return nil
		case !same && string(s.Address) == in.Address:
			n.logger.Warn("server lost its disk, removing its old id", "id", s.ID, "address", s.Address, "new_id", in.ID)
			var change raft.IndexFuture
			err := n.await(ctx, func() raft.Future {
				change = n.raft.RemoveServer(s.ID, index, enqueueTimeout)
				return change
			})
			if err != nil {
				return changeError("remove server "+string(s.ID), err)
			}
			index = change.Index()
		}
	}
	err := n.await(ctx, func() raft.Future {
		return n.raft.AddVoter(raft.ServerID(in.ID), raft.ServerAddress(in.Address), index, enqueueTimeout)
	})
	if err != nil {
		return changeError("add server "+in.ID, err)
	}
	n.logger.Info("server joined", "id", in.ID, "address", in.Address)
	return nil
}

// checkJoiner asks the joining server itself: a wrong address must not cost the
// cluster a vote, nor another cluster's server come in with its own log.
func (n *Node) checkJoiner(ctx context.Context, in joinRequest) error {
	peer, err := n.askIdentity(ctx, in.Address)
	if err != nil {
		return fmt.Errorf("the leader cannot reach the address that the server advertises: %w", err)
	}
	if peer.ID != in.ID {
		return fmt.Errorf("at %s answers server %s, not %s", in.Address, peer.ID, in.ID)
	}
	member := slices.ContainsFunc(n.Peers(), func(p Peer) bool { return p.ID == in.ID })
	if peer.HasState && !member {
		return fmt.Errorf("server %s holds the log of another cluster, or was taken out of this one: "+
			"start it with an empty data directory", in.ID)
	}
	return nil
}

func changeError(what string, err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipLost) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		return ErrNotLeader
	}
	return fmt.Errorf("%s: %w", what, err)
}

// hasState says whether this server holds a cluster's log.
func (n *Node) hasState() bool { return n.raft.LastIndex() > 0 }

// self returns this server's entry in the cluster's configuration.
func (n *Node) self() (raft.Server, bool) {
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if string(s.ID) == n.id {
			return s, true
		}
	}
	return raft.Server{}, false
}
