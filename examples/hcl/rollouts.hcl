# A deployment that is changed while it serves. It shows a canary, which gets a
# growing share of the requests, one that is undone because it fails more often
# than the version before it, and another user_config without a restart.
#
# run: serve-nomad dev examples/hcl/rollouts.hcl
#
# try: curl 'http://127.0.0.1:8000/rollouts'
# try: while sleep 0.02; do curl -s 'http://127.0.0.1:8000/rollouts'; done
#      (leave it running, and look at it after each of these)
# try: serve-nomad deploy -var release=2 examples/hcl/rollouts.hcl
# try: serve-nomad deploy -var release=3 -var errors=0.2 examples/hcl/rollouts.hcl
# try: serve-nomad deploy -var release=2 -var greeting=hi examples/hcl/rollouts.hcl

variable "release" {
  type        = string
  default     = "1"
  description = "What the answers say of the release: another one is a new version."
}

variable "errors" {
  type        = number
  default     = 0
  description = "The share of the answers that fail, from 0 to 1."
}

variable "greeting" {
  type        = string
  default     = "hello"
  description = "How replicas greet, which they are told while they run."
}

variable "python" {
  type        = string
  default     = "python3"
  description = "The interpreter, as the nodes find it: Python 3.9 or later."
}

application "rollouts" {
  route_prefix    = "/rollouts"
  ingress         = deployment.greeter
  request_timeout = "10s"

  deployment "greeter" {
    num_replicas         = 2
    max_ongoing_requests = 20
    user_config          = { greeting = var.greeting }

    # The replicas that run get another user_config by POST.
    reconfigure {
      path    = "/reconfigure"
      timeout = "5s"
    }

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = var.python
        args    = ["local/greeter.py"]
      }
      env {
        RELEASE = var.release
        ERRORS  = var.errors
      }
      dynamic "template" {
        for_each = { greeter = "rollouts/greeter.py", hello = "hello/hello.py" }
        content {
          data            = file(template.value)
          destination     = "local/${template.key}.py"
          left_delimiter  = "<<<<"
          right_delimiter = ">>>>"
          change_mode     = "noop"
        }
      }
    }
  }

  # Of ten requests one goes to the new version, then five, then all of them. Each
  # step lasts long enough to be watched here; for real traffic, take minutes.
  rollout {
    strategy          = "canary"
    steps             = [10, 50]
    interval          = "10s"
    progress_deadline = "1m"

    gates {
      max_error_increase = 0.05
      max_restarts       = 0
    }
  }
}
