application "later" {
  ingress = deployment.a
  deployment "a" {
    num_replicas = 2
    autoscaling {
      min_replicas            = 9
      max_replicas            = 8
      initial_replicas        = 10
      target_ongoing_requests = 0
      upscale_delay           = "-1s"
      aggregation             = "median"
      look_back_period        = "9e9h"
      metrics_interval        = "1us"
      smoothing               = 1
    }
    resources {
      gpu = 1.5
    }
    task { driver = "exec" }
  }
  deployment "a" {
    task { driver = "exec" }
  }
  rollout {
    strategy = "yolo"
    steps    = [50, 10]
    gates {
      check "smoke" {
        timeout = "0s"
        resources { cpu = 0 }
        task {
          kill_timeout = "1s"
          env { SERVE_CHECK_URL = "x" }
        }
      }
      check "smoke" {}
      check "none" {
        task "x" {}
      }
      check {
        task { driver = "exec" }
      }
    }
  }
  rollout {}
}
worker_group "g" {
  node_pool = "no spaces"
  min_nodes = 3
  max_nodes = 2
  node {
    cpu = 0
  }
  target "cloud" {}
}
worker_group "g" {
  node {
    memory = "1GiB"
  }
}
