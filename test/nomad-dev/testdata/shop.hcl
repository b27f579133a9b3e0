variable "program" {
  type = string
}
variable "version" {
  type    = string
  default = "v1"
}
variable "replicas" {
  type    = number
  default = 2
}
variable "crash" {
  type    = string
  default = ""
}
variable "loads" {
  type    = string
  default = "0s"
}
variable "memory" {
  type    = string
  default = "64MiB"
}
variable "queue" {
  type    = number
  default = -1
}
variable "timeout" {
  type    = string
  default = "30s"
}

application "shop" {
  route_prefix    = "/shop"
  ingress         = deployment.till
  request_timeout = var.timeout

  deployment "till" {
    num_replicas         = var.replicas
    max_ongoing_requests = 2
    max_queued_requests  = var.queue

    resources {
      cpu    = 0.1
      memory = var.memory
    }

    task {
      driver = "raw_exec"
      config {
        command = var.program
      }
      env {
        VERSION = var.version
        CRASH   = var.crash
        LOADS   = var.loads
      }
    }

    health_check {
      period = "1s"
    }
    graceful_shutdown_timeout = "10s"
  }
}
