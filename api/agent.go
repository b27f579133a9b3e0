package api

func (s *Server) info() ServerInfo {
	info := s.cfg.Info
	info.Leader = s.cfg.Cluster.IsLeader()
	info.ClusterID = s.cfg.Cluster.View().State.ClusterID
	return info
}

func readSelf(c *call) error { return c.answer(c.server.info()) }

func readHealth(c *call) error {
	id, address := c.cluster().Leader()
	return c.answer(AgentHealth{OK: true, HasLeader: id != "" || address != ""})
}

func readLeader(c *call) error {
	id, address := c.cluster().Leader()
	if id == "" && address == "" {
		return ErrNoLeader
	}
	leader := Peer{ID: id, Address: address, Leader: true, Voter: true}
	return c.answer(leader)
}

func listPeers(c *call) error {
	peers := c.cluster().Peers()
	if peers == nil {
		peers = []Peer{}
	}
	return c.answer(peers)
}
