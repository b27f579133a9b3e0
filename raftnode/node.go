package raftnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

// rpcTimeout bounds one exchange between two servers' rafts. A snapshot gets
// one of it for each 256 KiB.
const rpcTimeout = 3 * time.Second

// Node is one running server of the cluster.
type Node struct {
	cfg        Config
	id         string
	raft       *raft.Raft
	fsm        *raftstate.FSM
	logger     hclog.Logger
	leadership *leadership
	leader     *leaderWatch
	calls      *calls
	outside    *outside // nil when raft runs in memory
	stop       context.CancelFunc
	loops      sync.WaitGroup
}

// outside is what a Node holds of the machine: its directory and its port.
type outside struct {
	dir       *dataDir
	mux       *mux
	transport *raft.NetworkTransport
	book      *addressBook
	server    *http.Server
	handler   atomic.Pointer[http.Handler]
	toPeers   *http.Transport
	closing   sync.Once
	err       error
}

// Peer is one server of the cluster.
type Peer struct {
	ID      string
	Address string // of its Raft port
	Voter   bool
	Leader  bool
}

// Open starts this server of the cluster. It returns once the log is read and
// the port is open; founding or joining a cluster goes on behind. ctx bounds
// the opening alone: Shutdown ends the node.
func Open(ctx context.Context, cfg Config, fsm *raftstate.FSM) (_ *Node, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	dir, err := openDataDir(cfg.DataDir, cfg.Logger)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.close())
		}
	}()
	l := cfg.listener
	if l == nil {
		if l, err = listen(ctx, cfg.Bind); err != nil {
			return nil, err
		}
	}
	if cfg.Advertise == "" {
		cfg.Advertise = l.Addr().String()
		if err := checkAddress(cfg.Advertise); err != nil {
			return nil, errors.Join(fmt.Errorf("bound to %s, an advertise address is needed: %w", cfg.Advertise, err), l.Close())
		}
	}
	return openNode(cfg, fsm, dir, l)
}

func openNode(cfg Config, fsm *raftstate.FSM, dir *dataDir, l net.Listener) (*Node, error) {
	o := &outside{
		dir: dir, mux: newMux(l, cfg.Advertise, dir.serverID, cfg.Logger),
		book: &addressBook{id: dir.serverID, address: cfg.Advertise},
	}
	o.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:                raftStream{o.mux.listenerFor(protocolRaft)},
		ServerAddressProvider: o.book,
		MaxPool:               3,
		Timeout:               rpcTimeout,
		Logger:                cfg.Logger.Named("raft.net"),
		// 1 turns pipelining off: a pipeline that meets a refusal can leave a
		// follower behind for as long as the leader lives.
		MaxRPCsInFlight: 1,
	})
	o.toPeers = &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return o.mux.dial(ctx, address, string(rune(protocolHTTP)))
		},
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConnsPerHost: 16,
	}
	n, err := newNode(cfg, dir.serverID, fsm, stores{dir.store, dir.store, dir.snapshots, o.transport})
	if err != nil {
		return nil, errors.Join(err, o.transport.Close(), o.mux.close())
	}
	n.outside = o
	o.book.raft.Store(n.raft)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := n.stop
	n.stop = func() { cancel(); stopped() }
	n.serve(ctx)
	n.loops.Go(func() { n.settle(ctx) })
	n.logger.Info("raft is open", "id", n.id, "name", cfg.Name, "address", cfg.Advertise,
		"data_dir", cfg.DataDir, "has_state", dir.hasState)
	return n, nil
}

// stores is where a raft keeps and sends things.
type stores struct {
	log       raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	transport raft.Transport
}

// newNode starts raft and what watches it.
func newNode(cfg Config, id string, fsm *raftstate.FSM, s stores) (_ *Node, err error) {
	defer caught(&err)()
	edges := make(chan bool)
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(id)
	conf.HeartbeatTimeout = cfg.Timing.Heartbeat
	conf.ElectionTimeout = cfg.Timing.Election
	conf.LeaderLeaseTimeout = cfg.Timing.Lease
	conf.SnapshotInterval = cfg.Timing.SnapshotInterval
	conf.SnapshotThreshold = cfg.Timing.SnapshotThreshold
	conf.TrailingLogs = cfg.Timing.TrailingLogs
	conf.ShutdownOnRemove = false
	conf.NotifyCh = edges
	conf.NoLegacyTelemetry = true
	conf.Logger = cfg.Logger.Named("raft")

	ctx, cancel := context.WithCancel(context.Background())
	n := &Node{
		cfg: cfg, id: id, fsm: fsm, logger: cfg.Logger, stop: cancel,
		leadership: newLeadership(), calls: &calls{},
	}
	// Raft waits for the edges' reader, so it must read from the start.
	edgesDone := make(chan struct{})
	n.loops.Go(func() { n.leadership.watch(edges, edgesDone) })
	n.raft, err = raft.NewRaft(conf, fsm, s.log, s.stable, s.snapshots, s.transport)
	if err != nil {
		cancel()
		close(edgesDone)
		n.loops.Wait()
		return nil, fmt.Errorf("start raft: %w", err)
	}
	n.leader = watchLeader(n.raft)
	n.stop = func() { cancel(); close(edgesDone); n.leader.stop() }
	n.loops.Go(func() { n.establish(ctx) })
	return n, nil
}

// ID returns this server's id, made once for its data directory.
func (n *Node) ID() string { return n.id }

// Name returns this server's name for people.
func (n *Node) Name() string { return cmp.Or(n.cfg.Name, n.id) }

// Address returns where peers reach this server.
func (n *Node) Address() string { return n.cfg.Advertise }

// State returns the newest State on this server, which may lag behind the
// leader's. It never changes.
func (n *Node) State() *raftstate.State { return n.fsm.State() }

// Changed returns a channel that is closed when a newer State is there. Take
// it before State.
func (n *Node) Changed() <-chan struct{} { return n.fsm.Changed() }

// Watch returns the newest State and a channel that is closed when it no
// longer is the newest.
func (n *Node) Watch() (*raftstate.State, <-chan struct{}) { return n.fsm.Watch() }

// WaitIndex waits until this server has applied the command at index, and
// returns the State then.
func (n *Node) WaitIndex(ctx context.Context, index uint64) (*raftstate.State, error) {
	for {
		s, changed := n.fsm.Watch()
		if s.Index >= index {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, fmt.Errorf("wait for index %d, at %d: %w", index, s.Index, ctx.Err())
		}
	}
}

// Peers returns the servers of the cluster, as this server knows them.
func (n *Node) Peers() []Peer {
	_, leader := n.raft.LeaderWithID()
	var peers []Peer
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		peers = append(peers, Peer{
			ID: string(s.ID), Address: string(s.Address),
			Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader,
		})
	}
	return peers
}

// Snapshot makes a snapshot of the State now. A State that has one already is
// no error.
func (n *Node) Snapshot(ctx context.Context) error {
	err := n.await(ctx, func() raft.Future { return n.raft.Snapshot() })
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}
