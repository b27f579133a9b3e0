variable "program" {
  type = string
}
variable "replicas" {
  type    = number
  default = 0
}
variable "max_nodes" {
  type    = number
  default = 4
}
variable "idle" {
  type    = string
  default = "2s"
}
variable "min_replicas" {
  type    = number
  default = 0
}
variable "max_replicas" {
  type    = number
  default = 8
}

application "nodes" {
  route_prefix    = "/nodes"
  request_timeout = "60s"

  deployment "worker" {
    worker_group         = "cpu"
    max_ongoing_requests = 2

    autoscaling {
      min_replicas            = var.min_replicas
      max_replicas            = var.max_replicas
      target_ongoing_requests = 2
      upscale_delay           = "0s"
      downscale_delay         = "3s"
      downscale_to_zero_delay = "3s"
      look_back_period        = "1s"
      metrics_interval        = "200ms"
    }

    resources {
      cpu    = 0.5
      memory = "128MiB"
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
    graceful_shutdown_timeout = "10s"
  }
}

# Two replicas fill a node.
worker_group "cpu" {
  max_nodes    = var.max_nodes
  idle_timeout = var.idle

  node {
    cpu      = 1
    core_mhz = 1000
    memory   = "512MiB"
  }

  scale_down {
    consolidate_after = "3s"
    budget            = "100%"
  }

  target "process" {}
}
