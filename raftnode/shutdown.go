package raftnode

import (
	"context"
	"errors"
)

// Shutdown stops this server. A leader hands over first, so that the cluster
// takes writes again at once. ctx bounds the handing over and the requests
// under way; what follows is done in any case. Nothing of the node is left
// when it returns.
func (n *Node) Shutdown(ctx context.Context) error {
	o := n.outside
	o.closing.Do(func() { o.err = n.shutdown(ctx) })
	return o.err
}

func (n *Node) shutdown(ctx context.Context) error {
	if n.IsLeader() && n.hasOtherVoter() {
		if err := n.TransferLeadership(ctx); err != nil {
			n.logger.Warn("stopping without having handed over leadership", "error", err)
		}
	}
	o := n.outside
	ctx, cancel := context.WithTimeout(ctx, drainRequests)
	defer cancel()
	err := o.server.Shutdown(ctx)
	if err != nil {
		err = o.server.Close() // those that are left had their time
	}
	n.calls.stop(ctx)

	// Raft waits for its exchanges with peers, which end with the connections.
	ended := n.raft.Shutdown()
	err = errors.Join(err, o.transport.Close(), o.mux.close(), ended.Error())
	n.stop()
	n.loops.Wait()
	o.toPeers.CloseIdleConnections()
	err = errors.Join(err, o.dir.close())
	n.logger.Info("raft is closed", "id", n.id)
	return err
}
