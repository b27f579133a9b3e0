# Written anew at each start.
name      = "server"
data_dir  = "/run/with \"quotes\" and $${dollars}/data"
log_level = "info"

http {
  address = "127.0.0.1:8265"
}

raft {
  address          = "127.0.0.1:8266"
  bootstrap_expect = 1
}

nomad {
  address = "http://127.0.0.1:4646"
}

consul {
  address = "http://127.0.0.1:8500"
}

proxy {
  address        = "127.0.0.1:8000"
  handle_address = "127.0.0.1:8001"

  gatekeeper_address = "127.0.0.1:8002"
}

# Whoever reaches the API can run programs here anyway: raw_exec is on.
nodes {
  allow_exec = true

  process {
    enabled        = true
    dir            = "/run/nodes"
    nomad          = "/bin/nomad"
    consul         = "/bin/consul"
    nomad_servers  = ["127.0.0.1:4647"]
    consul_servers = ["127.0.0.1:8301"]
  }
}
