variable "burst" {
  type    = bool
  default = false
}

application "scaling" {
  ingress = deployment.plain

  deployment "plain" {
    autoscaling {
      max_replicas = 10
    }
    task {
      driver = "exec"
    }
  }

  deployment "ray" {
    autoscaling {
      policy                  = "ray"
      min_replicas            = 0
      max_replicas            = 100
      initial_replicas        = 3
      target_ongoing_requests = 1.5
      upscale_delay           = "0s"
      downscale_delay         = "5m"
      downscale_to_zero_delay = "1h"
      upscaling_factor        = 2
      downscaling_factor      = 0.5
      look_back_period        = "0s"
      metrics_interval        = "500ms"
      aggregation             = "max"

      schedule "office" {
        cron         = "0 8 * * mon-fri"
        duration     = "10h"
        timezone     = "Europe/Berlin"
        min_replicas = 20
        max_replicas = 200
      }
      schedule "sale" {
        cron         = "@monthly"
        duration     = "24h"
        max_replicas = 500
      }
      forecast {
        window  = "10m"
        horizon = "90s"
      }
      metric {
        source   = "prometheus"
        query    = <<-Q
          sum(queue_depth{app="scaling"})
            / 2
        Q
        target   = 0.25
        combine  = "max"
        interval = "15s"
        timeout  = "5s"
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "knative" {
    autoscaling {
      policy           = "kpa"
      max_replicas     = 50
      look_back_period = var.burst ? "10s" : null
      kpa {
        stable_window              = "2m"
        panic_window_percentage    = 5
        panic_threshold_percentage = 150
        target_utilization         = 0.7
        max_scale_up_rate          = 10
        max_scale_down_rate        = 1.5
        scale_down_delay           = "1m"
        activation_scale           = 2
        scale_to_zero_retention    = "3h"
      }
      forecast {}
    }
    task {
      driver = "exec"
    }
  }

  deployment "knative-defaults" {
    autoscaling {
      policy = "kpa"
    }
    task {
      driver = "exec"
    }
  }

  deployment "outside" {
    autoscaling {
      policy           = "external"
      min_replicas     = 2
      max_replicas     = 8
      initial_replicas = 4
      schedule "weekend" {
        cron         = "0 0 * * sat"
        duration     = "48h"
        min_replicas = 0
      }
    }
    task {
      driver = "exec"
    }
  }

  deployment "asked" {
    autoscaling {
      metric {
        source   = "replica"
        path     = "/stats?short=1"
        field    = "models[0].queue-depth"
        target   = 4
        interval = "1s"
      }
    }
    task {
      driver = "exec"
    }
  }
}
