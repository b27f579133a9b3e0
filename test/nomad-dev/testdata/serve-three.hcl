# Written anew at each start.
name      = "server"
data_dir  = "/run/with \"quotes\" and $${dollars}/data"
log_level = "info"

http {
  address = "127.0.0.1:8265"
}

raft {
  address          = "127.0.0.1:8266"
  bootstrap_expect = 3
  peers            = ["127.0.0.1:8266", "127.0.0.1:8267", "127.0.0.1:8268"]
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
  servers        = ["http://127.0.0.1:8265", "http://127.0.0.1:8275", "http://127.0.0.1:8285"]
}
