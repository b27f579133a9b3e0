# A deployment that follows its load: from nothing to eight replicas and back.
# It shows the replica autoscaler with delays short enough to watch, bounds that
# change by the clock, and how a trace is rehearsed before anything is deployed.
# It runs the same program as hello.hcl.
#
# run: serve-nomad dev examples/hcl/elastic.hcl
#
# try: curl 'http://127.0.0.1:8000/elastic?sleep=0.5'
# try: for i in $(seq 40); do curl -s 'http://127.0.0.1:8000/elastic?sleep=2' & done; wait
# try: serve-nomad autoscale explain elastic/worker
# try: serve-nomad autoscale replay -spec examples/hcl/elastic.hcl -deployment worker -load examples/hcl/elastic/burst.jsonl

variable "max_replicas" {
  type        = number
  default     = 8
  description = "How many replicas there may be, outside the working day too."
}

variable "python" {
  type        = string
  default     = "python3"
  description = "The interpreter, as the nodes find it: Python 3.9 or later."
}

application "elastic" {
  route_prefix    = "/elastic"
  request_timeout = "60s"

  deployment "worker" {
    max_ongoing_requests = 4
    max_queued_requests  = 200

    autoscaling {
      min_replicas            = 0
      max_replicas            = var.max_replicas
      target_ongoing_requests = 2

      # Ray Serve's defaults wait 30 s before they add and 10 minutes before they
      # take away. These are for a replica that starts in a second.
      upscale_delay           = "1s"
      downscale_delay         = "20s"
      downscale_to_zero_delay = "60s"
      look_back_period        = "5s"

      # While people are at work one replica is warm, so that nobody waits for a
      # start.
      schedule "working-day" {
        cron         = "0 8 * * MON-FRI"
        duration     = "10h"
        timezone     = "Europe/Berlin"
        min_replicas = 1
      }
    }

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

      template {
        data            = file("hello/hello.py")
        destination     = "local/hello.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      period = "1s"
    }
  }
}
