// Package raftnode is the door to Raft: one server of the cluster, its log and
// snapshots on disk, its peers on the wire. It proposes commands, says who
// leads, and runs leader-only work for the span of each leadership.
//
// All that servers say to each other goes through one TCP port. The first byte
// of a connection says what it carries: Raft, or HTTP for forwarded requests
// and for joining.
package raftnode

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// DefaultBind is where a server listens for its peers when nothing is said.
const DefaultBind = "127.0.0.1:8266"

// Config says how a server takes part in its cluster.
type Config struct {
	Name      string // for people; "": the server's id
	DataDir   string // made with mode 0700 if it is not there
	Bind      string // host:port to listen on for peers; "": DefaultBind
	Advertise string // host:port that peers reach this server at; "": the address that it listens on

	// Peers are the Raft addresses of all servers; this server's own may be
	// among them.
	Peers []string

	// BootstrapExpect is how many servers found the cluster together, all of
	// them named in Peers. 0: this server never founds one, it only joins.
	BootstrapExpect int

	Timing          Timing
	Logger          hclog.Logger // nil: logs nothing
	InternalHandler http.Handler // answers forwarded requests; may be set later with SetHandler

	listener net.Listener // in place of Bind, in tests
}

// Timing is how fast a cluster notices that its leader is gone, and how often
// it shortens its log. All servers should have the same. A zero field takes
// its default.
type Timing struct {
	Heartbeat time.Duration // a follower without contact for this long stands for election
	Election  time.Duration // a candidate without a majority for this long tries again
	Lease     time.Duration // a leader without contact to a majority for this long steps down

	SnapshotInterval  time.Duration
	SnapshotThreshold uint64 // entries since the last snapshot that make a new one due
	TrailingLogs      uint64 // entries kept behind a snapshot
}

// DefaultTiming gives a new leader about a second after the old one's death
// and bears a busy machine of two cores.
func DefaultTiming() Timing {
	return Timing{
		Heartbeat: 500 * time.Millisecond,
		Election:  500 * time.Millisecond,
		Lease:     250 * time.Millisecond,

		// Falling back to the snapshot before the last one needs the log from
		// there on: keep well over one threshold behind, and look often.
		SnapshotInterval:  10 * time.Second,
		SnapshotThreshold: 2048,
		TrailingLogs:      4 * 2048,
	}
}

func (t Timing) withDefaults() Timing {
	d := DefaultTiming()
	return Timing{
		Heartbeat:         cmp.Or(t.Heartbeat, d.Heartbeat),
		Election:          cmp.Or(t.Election, d.Election),
		Lease:             cmp.Or(t.Lease, d.Lease),
		SnapshotInterval:  cmp.Or(t.SnapshotInterval, d.SnapshotInterval),
		SnapshotThreshold: cmp.Or(t.SnapshotThreshold, d.SnapshotThreshold),
		TrailingLogs:      cmp.Or(t.TrailingLogs, d.TrailingLogs),
	}
}

func (c Config) withDefaults() Config {
	c.Bind = cmp.Or(c.Bind, DefaultBind)
	c.Timing = c.Timing.withDefaults()
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.DataDir == "":
		return errors.New("raft needs a data directory")
	case c.BootstrapExpect < 0:
		return fmt.Errorf("bootstrap_expect cannot be %d", c.BootstrapExpect)
	case c.BootstrapExpect > len(c.Peers)+1:
		return fmt.Errorf("bootstrap_expect is %d, but peers names only %q: name the Raft addresses of all %d servers",
			c.BootstrapExpect, c.Peers, c.BootstrapExpect)
	case c.BootstrapExpect == 0 && len(c.Peers) == 0:
		return errors.New("bootstrap_expect is 0 and there are no peers: this server could neither found a cluster nor join one")
	case c.Timing.TrailingLogs < 2*c.Timing.SnapshotThreshold:
		return fmt.Errorf("trailing logs (%d) must be at least twice the snapshot threshold (%d)",
			c.Timing.TrailingLogs, c.Timing.SnapshotThreshold)
	}
	for _, peer := range c.Peers {
		if err := checkAddress(peer); err != nil {
			return fmt.Errorf("peer %q: %w", peer, err)
		}
	}
	if c.Advertise != "" {
		if err := checkAddress(c.Advertise); err != nil {
			return fmt.Errorf("advertise address %q: %w", c.Advertise, err)
		}
	}
	return nil
}

// checkAddress refuses what no other machine could dial.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return errors.New("a host that peers can reach is needed")
	}
	if port == "" || port == "0" {
		return errors.New("a port that peers can reach is needed")
	}
	return nil
}
