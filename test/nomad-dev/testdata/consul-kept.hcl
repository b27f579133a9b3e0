# Written anew at each start.
node_name            = "consul"
datacenter           = "dc1"
data_dir             = "/run/consul/data"
server               = true
bootstrap_expect     = 1
bind_addr            = "127.0.0.1"
client_addr          = "127.0.0.1"
leave_on_terminate   = false
disable_update_check = true
log_level            = "INFO"

ui_config {
  enabled = true
}

ports {
  http     = 8500
  server   = 8300
  serf_lan = 8301
  https    = -1
  dns      = -1
  grpc     = -1
  grpc_tls = -1
  serf_wan = -1
}

performance {
  raft_multiplier = 1
}

# Every watch of every proxy, server and agent comes from one address.
limits {
  http_max_conns_per_client = 4000
  rpc_max_conns_per_client  = 4000
}
