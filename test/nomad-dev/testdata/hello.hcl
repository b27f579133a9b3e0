# try: curl http://127.0.0.1:8000/hello?name=you
variable "replicas" {
  default = 2
}

application "hello" {
  route_prefix = "/hello"
  ingress      = deployment.web

  deployment "web" {
    num_replicas = var.replicas

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = "python3"
        args    = ["-c", file("hello.py")]
      }
    }

    health_check {
      path = "/healthz"
    }
    graceful_shutdown_timeout = "5s"
  }
}
