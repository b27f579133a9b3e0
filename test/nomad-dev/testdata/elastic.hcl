variable "program" {
  type = string
}
variable "loads" {
  type        = string
  default     = "0s"
  description = "How long a replica takes until it can serve."
}
variable "min" {
  type    = number
  default = 0
}
variable "look_back" {
  type    = string
  default = "1s"
}

application "elastic" {
  route_prefix    = "/elastic"
  request_timeout = "60s"

  deployment "worker" {
    max_ongoing_requests = 2

    autoscaling {
      min_replicas            = var.min
      max_replicas            = 4
      target_ongoing_requests = 2
      upscale_delay           = "0s"
      downscale_delay         = "3s"
      downscale_to_zero_delay = "3s"
      look_back_period        = var.look_back
      metrics_interval        = "200ms"
    }

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = var.program
      }
      env {
        LOADS = var.loads
      }
    }

    health_check {
      period = "1s"
    }
    graceful_shutdown_timeout = "10s"
  }
}

application "manual" {
  route_prefix = "/manual"

  deployment "worker" {
    autoscaling {
      policy       = "external"
      min_replicas = 1
      max_replicas = 3
    }

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = var.program
      }
    }

    health_check {
      period = "1s"
    }
  }
}
