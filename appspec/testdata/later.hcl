application "later" {
  ingress = deployment.a

  deployment "a" {
    worker_group = "gpu"
    autoscaling {
      min_replicas   = 2
      max_replicas   = 8
      downscale_delay = "5m"
    }
    resources {
      gpu = 0.25
    }
    task {
      driver = "exec"
    }
  }

  rollout {
    strategy      = "canary"
    steps         = [10, 50, 100]
    auto_rollback = true
    gates {
      check "smoke" {
        timeout = "2m"
        resources { memory = "64MiB" }
        task {
          driver = "exec"
          env { URL = "${SERVE_CHECK_URL}/healthz" }
        }
      }
      check "least" {
        task { driver = "exec" }
      }
    }
  }
}

worker_group "gpu" {
  min_nodes    = 1
  max_nodes    = 8
  idle_timeout = "60s"
  node {
    cpu    = 8
    memory = "24GiB"
    gpu    = 1
  }
  target "process" {}
}
