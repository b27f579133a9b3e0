# A rollout block with all that it can have, and ways to take another config.
application "chat" {
  ingress = deployment.gate

  deployment "gate" {
    handles     = [deployment.model]
    user_config = { limits = [1, 2.5], "max tokens" = 512 }
    reconfigure {
      signal  = "SIGUSR1"
      timeout = "1m"
    }
    task { driver = "exec" }
  }

  deployment "model" {
    user_config = { temperature = 0.5 }
    reconfigure {
      path = "/-/config"
    }
    task { driver = "exec" }
  }

  rollout {
    strategy          = "canary"
    max_surge         = 50
    steps             = [for s in [1, 10, 50] : s]
    interval          = "2m"
    sticky            = true
    progress_deadline = "15m"
    drain_timeout     = "10m"
    auto_rollback     = false
    shadow            = 5
    shadow_time       = "1m"

    gates {
      max_error_increase = 0.005
      max_latency_ratio  = 1.5
      max_restarts       = -1
      query "backlog" {
        query    = "sum(backlog{application=\"chat\"})"
        max      = 100
        interval = "30s"
      }
      query "tokens" {
        query = "avg(tokens_per_second)"
        min   = 20.5
      }
    }
  }
}

application "small" {
  route_prefix = "/small"
  deployment "only" {
    task { driver = "exec" }
  }
  rollout {
    strategy        = "rolling"
    max_surge       = 0
    max_unavailable = 50
    bake_time       = "0s"
    shadow_time     = null
  }
}

application "least" {
  route_prefix = "/least"
  deployment "only" {
    task { driver = "exec" }
  }
  rollout {
    gates {}
  }
}
