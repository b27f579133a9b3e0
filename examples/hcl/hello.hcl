# One application with one deployment: a web server in Python, from the standard
# library alone. It shows the least that a spec needs, how a program reaches its
# replica without an image or a download, and what a replica does when it stops.
#
# run: serve-nomad dev examples/hcl/hello.hcl
#      serve-nomad deploy -var name=Nomad -var replicas=4 examples/hcl/hello.hcl
#
# try: curl 'http://127.0.0.1:8000/hello'

variable "name" {
  type        = string
  default     = "world"
  description = "Who is greeted."
}

variable "replicas" {
  type        = number
  default     = 2
  description = "How many replicas run."
}

variable "python" {
  type        = string
  default     = "python3"
  description = "The interpreter, as the nodes find it: Python 3.9 or later."
}

application "hello" {
  route_prefix    = "/hello"
  ingress         = deployment.hello
  request_timeout = "30s"

  deployment "hello" {
    num_replicas         = var.replicas
    max_ongoing_requests = 20

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = var.python
        args    = ["local/hello.py"]
      }
      env {
        GREET = var.name
      }

      # The program's source is part of the spec: a change of it is a new version.
      template {
        data            = file("hello/hello.py")
        destination     = "local/hello.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      path = "/healthz"
    }
    graceful_shutdown_timeout = "20s"
  }
}
