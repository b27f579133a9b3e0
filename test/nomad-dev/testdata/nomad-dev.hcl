# Written anew at each start.
name                 = "nomad"
data_dir             = "/run/nomad/data"
bind_addr            = "127.0.0.1"
leave_on_terminate   = false
leave_on_interrupt   = false
disable_update_check = true
log_level            = "INFO"

ports {
  http = 4646
  rpc  = 4647
  serf = 4648
}

advertise {
  http = "127.0.0.1:4646"
  rpc  = "127.0.0.1:4647"
  serf = "127.0.0.1:4648"
}

server {
  enabled          = true
  bootstrap_expect = 1
}

client {
  enabled           = true
  network_interface = "lo"
  alloc_mounts_dir  = "/run/nomad/mounts"
  max_kill_timeout  = "5m"

  # These ask a cloud's metadata server, which on other machines costs time and
  # can end the agent.
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}

plugin "docker" {
  config {
    volumes {
      enabled = true
    }
  }
}

consul {
  address = "127.0.0.1:8500"
}

ui {
  enabled = true
  consul {
    ui_url = "http://127.0.0.1:8500/ui"
  }
}

limits {
  http_max_conns_per_client = 4000
  rpc_max_conns_per_client  = 4000
}
