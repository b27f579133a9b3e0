application "scaling" {
  ingress = deployment.bounds

  deployment "bounds" {
    autoscaling {
      policy                  = "knative"
      min_replicas            = 9
      max_replicas            = 8
      target_ongoing_requests = 0
      upscale_delay           = "-1s"
      downscale_delay         = "25h"
      upscaling_factor        = 0
      downscaling_factor      = -1
      look_back_period        = "2h"
      metrics_interval        = "61s"
      aggregation             = "median"
      smoothing_factor        = 1
      kpa {}
      metrics {}
    }
    task {
      driver = "exec"
    }
  }

  deployment "ray" {
    autoscaling {
      max_replicas     = 5
      initial_replicas = 6
      kpa {
        stable_window = "1m"
      }
      kpa {}
      schedule {
        cron = "@daily"
      }
      schedule "Night Shift" {
        cron     = "0 8 * *"
        duration = "30s"
        timezone = "Local"
      }
      schedule "twice" {
        cron         = "CRON_TZ=UTC 0 8 * * *"
        duration     = "1h"
        timezone     = "Mars/Olympus"
        min_replicas = 6
      }
      schedule "twice" {
        min_replicas = 1
      }
      schedule "never" {
        cron         = "0 0 30 2 *"
        duration     = "800h"
        timezone     = ""
        min_replicas = 4
        max_replicas = 3
      }
      schedule "hours" {
        cron         = "0 25 * * *"
        duration     = "1h"
        max_replicas = 0
      }
      schedule "every" {
        cron         = "@every 1h"
        duration     = 10
        max_replicas = "many"
      }
      forecast {
        window  = "10s"
        horizon = "2h"
      }
      metric {
        source   = "prometheus"
        path     = "/stats"
        field    = "depth"
        target   = 0
        combine  = "min"
        interval = "500ms"
        timeout  = "2s"
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "knative" {
    autoscaling {
      policy                  = "kpa"
      max_replicas            = 3
      upscale_delay           = "5s"
      downscale_delay         = "5s"
      downscale_to_zero_delay = "5s"
      upscaling_factor        = 1
      downscaling_factor      = 1
      look_back_period        = "5s"
      aggregation             = "mean"
      kpa {
        stable_window              = "5s"
        panic_window_percentage    = 0.5
        panic_threshold_percentage = 100
        target_utilization         = 1.1
        max_scale_up_rate          = 1
        max_scale_down_rate        = 0
        scale_down_delay           = "61m"
        activation_scale           = 4
        scale_to_zero_retention    = "-1s"
      }
      metric {
        source = "replica"
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "outside" {
    num_replicas = 2
    autoscaling {
      policy                  = "external"
      target_ongoing_requests = 1
      upscale_delay           = "1s"
      metrics_interval        = "1s"
      kpa {}
      forecast {}
      metric {
        source = "replica"
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "asked" {
    autoscaling {
      schedule "without" {}
      metric {
        source   = "replica"
        query    = "up"
        path     = "stats"
        field    = "models.#.depth"
        target   = "x"
        interval = "5s"
        timeout  = "6s"
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "lost" {
    autoscaling {
      policy = ["kpa"]
      kpa {}
      metric {
        source = "redis"
        target = 1
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "empty" {
    autoscaling {
      metric {}
    }
    autoscaling {}
    task {
      driver = "exec"
    }
  }
}
