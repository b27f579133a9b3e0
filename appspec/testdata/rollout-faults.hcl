application "words" {
  deployment "a" {
    task { driver = "exec" }
    reconfigure {
      signal = 1
      path   = ["x"]
      how    = "x"
    }
  }
  rollout {
    strategy          = 5
    max_surge         = "all"
    max_unavailable   = 1.5
    steps             = [1, 2.5]
    interval          = "0s"
    bake_time         = 10
    sticky            = "yes"
    progress_deadline = "soon"
    drain_timeout     = "0s"
    auto_rollback     = 1
    shadow            = "x"
    shadow_time       = "1m"
    max_surges        = 1
    gates {
      max_error_increase = "1%"
      max_restarts       = 0.5
      query "a" {
        query    = "up"
        max      = "x"
        interval = "0s"
      }
      query "a" {
        query = "up"
        min   = 1
      }
      query {}
    }
    gates {}
  }
}

application "rules" {
  route_prefix = "/rules"
  deployment "a" {
    task { driver = "exec" }
    reconfigure {
      signal = "HUP"
      path   = "/x"
    }
  }
  rollout {
    strategy        = "canary"
    max_surge       = 25
    max_unavailable = 10
    steps = [
      5,
      50,
    ]
    bake_time = "1m"
    gates {
      max_error_increase = 2
      max_latency_ratio  = 0
      max_restarts       = -2
      query "Q" {
        query = ""
        min   = 2
        max   = 1
      }
      query "none" {
        query    = "up"
        interval = "1h"
      }
    }
  }
}

application "empty" {
  route_prefix = "/empty"
  deployment "a" {
    task { driver = "exec" }
    reconfigure {}
  }
  rollout {
    steps    = []
    interval = "1m"
    shadow   = 10
  }
}

application "order" {
  route_prefix = "/order"
  deployment "a" {
    task { driver = "exec" }
    reconfigure { signal = "SIGTERM" }
  }
  rollout {
    strategy = "canary"
    steps    = [10, 5]
  }
}

application "slow" {
  route_prefix = "/slow"
  deployment "a" {
    task { driver = "exec" }
  }
  rollout {
    strategy    = "canary"
    max_surge   = 10
    interval    = "-1s"
    shadow_time = "1m"
  }
}

# Each has one fault, and nothing more is said of what follows from it.
application "strategy" {
  route_prefix = "/strategy"
  deployment "a" {
    task { driver = "exec" }
  }
  rollout {
    strategy = 5
    steps    = [10]
    interval = "1m"
    sticky   = true
  }
}

application "steps" {
  route_prefix = "/steps"
  deployment "a" {
    task { driver = "exec" }
  }
  rollout {
    strategy  = "canary"
    steps     = "10"
    max_surge = 10
  }
}

application "unavailable" {
  route_prefix = "/unavailable"
  deployment "a" {
    task { driver = "exec" }
    reconfigure {
      path = 1
    }
  }
  rollout {
    strategy        = "rolling"
    max_surge       = 0
    max_unavailable = "half"
  }
}

application "surge" {
  route_prefix = "/surge"
  deployment "a" {
    task { driver = "exec" }
    reconfigure {
      signal = true
    }
  }
  rollout {
    strategy    = "blue_green"
    max_surge   = "half"
    shadow      = "x"
    shadow_time = "1m"
  }
}
