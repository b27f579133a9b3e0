package raftnode

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/raftstate"
)

func TestOneServerIsACluster(t *testing.T) {
	cfg := single(t)
	n := open(t, cfg)
	leaderOf(t, n)
	r := write(t, "a", n)

	if s, err := n.WaitIndex(t.Context(), r.Index); err != nil || s.Applications["a"] == nil {
		t.Errorf("wait for index %d: %v", r.Index, err)
	}
	if s, err := n.ConsistentState(t.Context()); err != nil || s.Index != r.Index {
		t.Errorf("consistent state: %v", err)
	}
	if err := n.VerifyLeader(t.Context()); err != nil {
		t.Errorf("verify leader: %v", err)
	}
	if id, address := n.Leader(); id != n.ID() || address != cfg.Bind || !n.IsLeader() {
		t.Errorf("leader is %s at %s", id, address)
	}
	if peers := n.Peers(); len(peers) != 1 || peers[0] != (Peer{ID: n.ID(), Address: cfg.Bind, Voter: true, Leader: true}) {
		t.Errorf("peers are %+v", peers)
	}
	if err := n.TransferLeadership(t.Context()); err == nil {
		t.Error("leadership went to nobody")
	}
	again, err := n.Propose(t.Context(), deploy("a"))
	if err != nil || again != r {
		t.Errorf("the same command again: %+v, %v, want %+v", again, err, r)
	}
}

func TestARestartFindsItsState(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"from the log", "from a snapshot"} {
		t.Run(how, func(t *testing.T) {
			cfg := single(t)
			n := open(t, cfg)
			leaderOf(t, n)
			write(t, "a", n)
			if how == "from a snapshot" {
				for range 2 { // the second finds nothing new
					if err := n.Snapshot(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				write(t, "b", n)
			}
			id, want := n.ID(), encoded(t, n)
			shutdown(t, n)
			if _, err := n.Propose(t.Context(), deploy("late")); !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrStopped) {
				t.Errorf("a stopped server answers %v", err)
			}

			n = open(t, cfg)
			leaderOf(t, n)
			if got := encoded(t, n); n.ID() != id || got != want {
				t.Errorf("server %s has %s\nserver %s had %s", n.ID(), got, id, want)
			}
		})
	}
}

func TestAServerMayChangeItsAddress(t *testing.T) {
	t.Parallel()
	cfg := single(t)
	n := open(t, cfg)
	leaderOf(t, n)
	shutdown(t, n)
	cfg.Bind = freeAddress(t)
	n = open(t, cfg)
	eventually(t, "the new address is known", func() bool {
		peers := n.Peers()
		return len(peers) == 1 && peers[0].Address == cfg.Bind
	})
}

func TestThreeServersShareTheirState(t *testing.T) {
	nodes := openAll(t, several(t, 3))
	leader := leaderOf(t, nodes...)
	r := write(t, "a", leader)
	for _, n := range nodes {
		if _, err := n.WaitIndex(t.Context(), r.Index); err != nil {
			t.Fatal(err)
		}
		if id, address, err := n.WaitLeader(t.Context()); err != nil || id != leader.ID() || address != leader.Address() {
			t.Errorf("%s believes in leader %s at %s: %v", n.Name(), id, address, err)
		}
		if got, want := encoded(t, n), encoded(t, leader); got != want {
			t.Errorf("%s has %s\nwant %s", n.Name(), got, want)
		}
		if len(n.Peers()) != 3 {
			t.Errorf("%s knows %+v", n.Name(), n.Peers())
		}
	}
	follower := without(nodes, leader)[0]
	if _, err := follower.Propose(t.Context(), deploy("b")); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower's proposal: %v", err)
	}
	if err := follower.VerifyLeader(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower verifies: %v", err)
	}
	if _, err := follower.ConsistentState(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower's consistent state: %v", err)
	}
	if follower.Term() != 0 {
		t.Errorf("a follower has term %d", follower.Term())
	}
}

func TestFollowersForwardToTheLeader(t *testing.T) {
	nodes := openAll(t, several(t, 3))
	leader := leaderOf(t, nodes...)
	follower := without(nodes, leader)[0]
	if _, _, err := follower.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	get := func() (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://leader/v1/anything", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := follower.LeaderClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Answered-By")
	}
	if status, _ := get(); status != http.StatusServiceUnavailable {
		t.Errorf("without a handler: %d", status)
	}
	for _, n := range nodes {
		n.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Answered-By", n.ID()+r.URL.Path)
		}))
	}
	if status, by := get(); status != http.StatusOK || by != leader.ID()+"/v1/anything" {
		t.Errorf("got %d by %s", status, by)
	}
}

func TestNothingIsSentWithoutALeader(t *testing.T) {
	cfg := several(t, 2)[0] // the other one never comes
	n := open(t, cfg)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://leader/", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := n.LeaderTransport().RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, ErrNoLeader) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, _, err := n.WaitLeader(ctx); !errors.Is(err, ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := n.WaitIndex(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestWritesGoOnAfterTheLeaderStops(t *testing.T) {
	configs := several(t, 3)
	nodes := openAll(t, configs)
	first := leaderOf(t, nodes...)
	write(t, "a", first)
	shutdown(t, first)
	rest := without(nodes, first)
	write(t, "b", rest...)
	if second := leaderOf(t, rest...); second.Term() == 0 || !has(second, "a") || !has(second, "b") {
		t.Error("the new leader lacks a write")
	}
	for i, n := range nodes {
		if n != first {
			continue
		}
		back := open(t, configs[i])
		if back.ID() != first.ID() {
			t.Errorf("it came back as %s", back.ID())
		}
		eventually(t, "it has caught up", func() bool { return has(back, "a") && has(back, "b") })
	}
}

func TestAServerThatLostItsDiskJoinsAsANewOne(t *testing.T) {
	configs := several(t, 3)
	for i := range configs { // so that the log alone cannot bring it up to date
		configs[i].Timing = Timing{SnapshotInterval: 50 * time.Millisecond, SnapshotThreshold: 4, TrailingLogs: 8}
	}
	nodes := openAll(t, configs)
	lost := without(nodes, leaderOf(t, nodes...))[0]
	shutdown(t, lost)
	rest := without(nodes, lost)
	for name := range strings.SplitSeq("a b c d e f g h i j k l m n o p q r s t", " ") {
		write(t, name, rest...)
	}
	eventually(t, "there is a snapshot", func() bool {
		found, err := filepath.Glob(filepath.Join(leaderOf(t, rest...).cfg.DataDir, "snapshots", "*", "state.bin"))
		return err == nil && len(found) > 0
	})
	if err := os.RemoveAll(lost.cfg.DataDir); err != nil {
		t.Fatal(err)
	}

	cfg := lost.cfg
	back := open(t, cfg)
	eventually(t, "it is a voter and has caught up", func() bool {
		peers := back.Peers()
		return len(peers) == 3 && has(back, "t")
	})
	for _, p := range leaderOf(t, append(rest, back)...).Peers() {
		if p.ID == lost.ID() {
			t.Error("its old id is still a member")
		}
		if p.ID == back.ID() && (!p.Voter || p.Address != cfg.Bind) {
			t.Errorf("it is %+v", p)
		}
	}
	if back.ID() == lost.ID() {
		t.Error("it came back under its old id")
	}
	eventually(t, "its membership is written down", func() bool {
		_, err := os.Stat(filepath.Join(cfg.DataDir, memberFile))
		return err == nil
	})
}

// With its disk a server lost its votes and its acknowledgements. Until the
// leader has taken it in anew it may not count for its old self, or a majority
// would form of servers that never held what a majority acknowledged.
func TestAServerThatLostItsDiskDoesNotVoteForItsOldSelf(t *testing.T) {
	t.Parallel()
	configs := several(t, 3)
	nodes := openAll(t, configs)
	leader := leaderOf(t, nodes...)
	write(t, "a", leader)
	followers := without(nodes, leader)
	kept, lost := followers[0], followers[1]
	eventually(t, "all have the write", func() bool { return has(kept, "a") && has(lost, "a") })
	for _, n := range []*Node{lost, leader, kept} {
		shutdown(t, n)
	}
	if err := os.RemoveAll(lost.cfg.DataDir); err != nil {
		t.Fatal(err)
	}

	survivor, empty := open(t, leader.cfg), open(t, lost.cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 6*DefaultTiming().Election)
	defer cancel()
	if id, _, err := survivor.WaitLeader(ctx); err == nil {
		t.Fatalf("server %s was elected by a server that remembers nothing", id)
	}
	if empty.hasState() {
		t.Error("the empty server was taken for its old self")
	}
	back := open(t, kept.cfg) // now there is a real majority
	leaderOf(t, survivor, back)
	eventually(t, "the empty server is taken in anew", func() bool { return has(empty, "a") && len(empty.Peers()) == 3 })
}

func TestAServerJoinsWithoutFounding(t *testing.T) {
	configs := several(t, 2)
	configs[0].BootstrapExpect, configs[0].Peers = 1, configs[0].Peers[:1]
	configs[1].BootstrapExpect, configs[1].Peers = 0, configs[1].Peers[:1]
	second := open(t, configs[1]) // comes too early, and waits
	first := open(t, configs[0])
	write(t, "a", first)
	eventually(t, "the second server has the state", func() bool { return has(second, "a") && len(second.Peers()) == 2 })
}

func TestFoundingWaitsForWhatItNeeds(t *testing.T) {
	ask := func(n *Node) string {
		err := n.settleOnce(t.Context())
		if err == nil {
			return "nothing"
		}
		return err.Error()
	}
	t.Run("every peer to answer", func(t *testing.T) {
		configs := several(t, 3)
		n := open(t, configs[0])
		open(t, configs[1])
		if got := ask(n); !strings.Contains(got, configs[2].Bind) || strings.Contains(got, configs[1].Bind) || n.hasState() {
			t.Errorf("it waits for %s", got)
		}
	})
	t.Run("peers and bootstrap_expect to agree", func(t *testing.T) {
		configs := several(t, 2)
		configs[0].BootstrapExpect = 1
		configs[1].BootstrapExpect = 0
		n := open(t, configs[0])
		open(t, configs[1])
		if got := ask(n); !strings.Contains(got, "it is 1, but peers names 2") || n.hasState() {
			t.Errorf("it waits for %s", got)
		}
	})
	t.Run("all servers to agree", func(t *testing.T) {
		configs := several(t, 2)
		configs[1].BootstrapExpect = 1
		n := open(t, configs[0])
		open(t, configs[1])
		if got := ask(n); !strings.Contains(got, "the same bootstrap_expect") || n.hasState() {
			t.Errorf("it waits for %s", got)
		}
	})
	t.Run("somebody to join, when it founds nothing", func(t *testing.T) {
		configs := several(t, 2)
		configs[0].BootstrapExpect = 0
		if got := ask(open(t, configs[0])); !strings.Contains(got, "bootstrap_expect is 0") {
			t.Errorf("it waits for %s", got)
		}
	})
}

func TestTheLeaderAdmitsOnlyWhomItCanReach(t *testing.T) {
	t.Parallel()
	leader := open(t, single(t))
	leaderOf(t, leader)
	stranger := open(t, single(t)) // a cluster of its own
	leaderOf(t, stranger)
	for name, test := range map[string]struct {
		in   joinRequest
		says string
	}{
		"nobody there":          {joinRequest{ID: "x", Address: freeAddress(t)}, "cannot reach the address"},
		"another server there":  {joinRequest{ID: "x", Address: stranger.Address()}, "answers server " + stranger.ID()},
		"another cluster's log": {joinRequest{ID: stranger.ID(), Address: stranger.Address()}, "log of another cluster"},
		"no address":            {joinRequest{ID: "x"}, "missing port"},
		"any address":           {joinRequest{ID: "x", Address: "0.0.0.0:1"}, "a host that peers can reach"},
	} {
		t.Run(name, func(t *testing.T) {
			err := leader.admit(t.Context(), test.in)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if len(leader.Peers()) != 1 {
				t.Errorf("the cluster is %+v", leader.Peers())
			}
		})
	}
}

func TestACommandTooLargeForTheLogIsRefused(t *testing.T) {
	n := open(t, single(t))
	leaderOf(t, n)
	c := raftstate.Command{By: strings.Repeat("x", maxCommandBytes)}
	if _, err := n.Propose(t.Context(), c); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Propose(ctx, deploy("a")); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("with an ended context: %v", err)
	}
}
