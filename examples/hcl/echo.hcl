# A target for load tests: a small Go server, built from its source when a
# replica starts, that answers as fast as Go does. It shows many requests at
# once, a bounded queue, and a start that takes longer than a health check.
#
# run: serve-nomad dev examples/hcl/echo.hcl          (the nodes need Go 1.22 or later)
#      serve-nomad deploy -var replicas=4 examples/hcl/echo.hcl
#
# try: curl 'http://127.0.0.1:8000/echo?sleep=100ms&bytes=100'
# try: curl -N 'http://127.0.0.1:8000/echo/events?n=10&interval=100ms'
# try: websocat ws://127.0.0.1:8000/echo/socket        (or any other WebSocket client)
# try: curl -d 'some text' 'http://127.0.0.1:8000/echo'

variable "replicas" {
  type        = number
  default     = 2
  description = "How many replicas run."
}

variable "max_ongoing_requests" {
  type        = number
  default     = 100
  description = "How many requests one replica is sent at once."
}

variable "max_queued_requests" {
  type        = number
  default     = 1000
  description = "How many requests wait when all replicas are full; past it the answer is 503."
}

application "echo" {
  route_prefix    = "/echo"
  ingress         = deployment.echo
  request_timeout = "120s"

  deployment "echo" {
    num_replicas         = var.replicas
    max_ongoing_requests = var.max_ongoing_requests
    max_queued_requests  = var.max_queued_requests

    resources {
      cpu    = 0.5
      memory = "512MiB" # for the build; the server itself needs a tenth
    }

    task {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["local/start.sh"]
      }

      template {
        data            = file("echo/main.go")
        destination     = "local/main.go"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("echo/start.sh")
        destination     = "local/start.sh"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      path = "/healthz"
    }
    graceful_shutdown_timeout = "25s"
  }
}
