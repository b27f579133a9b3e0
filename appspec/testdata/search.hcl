variable "tag" {
  type        = string
  default     = "1.4"
  description = "The version of all images."
}

variable "gpus" {
  type    = number
  default = 0
}

locals {
  registry = "registry.example"
  image    = { for name in ["pipeline", "embedder", "ranker"] : name => "${local.registry}/${name}:${var.tag}" }
}

application "search" {
  route_prefix    = "/search"
  ingress         = deployment.pipeline
  request_timeout = "60s"
  max_body_bytes  = 33554432

  deployment "pipeline" {
    handles              = [deployment.embedder, deployment.ranker]
    num_replicas         = 3
    max_ongoing_requests = 5
    max_queued_requests  = 100

    resources {
      cpu    = 2
      memory = "1GiB"
    }

    task {
      driver      = "docker"
      user        = "nobody"
      kill_signal = "SIGINT"

      config {
        image = local.image["pipeline"]
        args  = ["--port", "${NOMAD_PORT_http}", "--max", 8]
        ports = ["http"]
        mount {
          type   = "bind"
          source = "local"
          target = "/data"
        }
        labels = {
          "example.com/team" = "search"
        }
        privileged = false
      }

      env {
        LOG_LEVEL = "info"
      }

      artifact {
        source      = "https://example.com/model.tar.gz"
        destination = "local/model"
        options {
          checksum = "sha256:abc"
        }
      }

      dynamic "template" {
        for_each = { a = 1, b = 2 }
        iterator = it
        content {
          destination = "local/${it.key}.conf"
          data        = <<-EOT
            threshold = ${it.value}
            {{ env "NOMAD_ALLOC_ID" }} ${node.unique.name}
          EOT
          change_mode = "restart"
        }
      }

      constraint {
        attribute = "${attr.kernel.name}"
        value     = "linux"
      }

      affinity {
        attribute = "${meta.rack}"
        value     = "r1"
        weight    = 50
      }

      vault {
        role = "search"
      }

      identity {
        name = "aws"
        aud  = ["sts.amazonaws.com"]
        file = true
        ttl  = "1h"
      }

      volume_mount {
        volume      = "models"
        destination = "/models"
        read_only   = true
      }

      logs {
        max_files     = 3
        max_file_size = 5
      }

      restart {
        attempts = 2
        interval = "1m"
        delay    = "5s"
        mode     = "delay"
      }
    }

    health_check {
      path    = "/healthz"
      period  = "2s"
      timeout = "1s"
    }
    graceful_shutdown_timeout = "20s"
    user_config = {
      threshold = 0.5
      models    = ["a", "b"]
      nested    = { deep = null, large = 9007199254740991 }
    }
  }

  deployment "embedder" {
    task {
      driver = "raw_exec"
      config {
        command = "embedder"
        args    = [file("args.conf")]
      }
      meta = {
        "a.b" = "c"
      }
    }
  }

  deployment "ranker" {
    num_replicas = 4
    resources {
      cpu    = 0.5
      memory = 512
      gpu    = var.gpus
    }
    task {
      driver = "mock_driver"
    }
  }
}
