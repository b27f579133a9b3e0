variable "max_nodes" {
  default = 8
}

application "chat" {
  deployment "model" {
    worker_group = "gpu"
    resources {
      cpu    = 4
      memory = "16GiB"
      gpu    = 1
    }
    task {
      driver = "docker"
      config { image = "registry.example/chat:1" }
    }
  }
}

application "batch" {
  route_prefix = "/batch"
  deployment "anywhere" {
    node_pool = "all"
    task { driver = "raw_exec" }
  }
  deployment "cheap" {
    worker_group = "deployed-before"
    node_pool    = "cheap"
    resources { cpu = 64 }
    task { driver = "raw_exec" }
  }
  ingress = deployment.anywhere
}

worker_group "gpu" {
  node_pool    = "gpu"
  min_nodes    = 0
  max_nodes    = var.max_nodes
  idle_timeout = "60s"
  priority     = 10
  price        = 2.5
  spot         = true
  labels       = { zone = "a", "team.name" = "search", tier = 1, warm = true }
  env = {
    HF_HOME  = "/models"
    HF_TOKEN = "not shown"
  }
  launch_timeout = "15m"
  drain_timeout  = "5m"
  dry_run        = true

  node {
    cpu        = 8
    core_mhz   = 2600
    memory     = "24GiB"
    disk       = "50GiB"
    gpu        = 1
    gpu_model  = "NVIDIA A100-SXM4-80GB"
    gpu_memory = "80GiB"
    datacenter = "eu-1"
    class      = "gpu-large"
    drivers    = ["docker", "exec"]
    attributes = { "cpu.arch" = "amd64" }
  }

  target "plugin" {
    plugin = "aws-asg"
    config = { aws_asg_name = "gpu-nodes", aws_secret_access_key = "not shown" }
  }

  scale_down {
    consolidate       = false
    consolidate_after = "1m"
    budget            = "2"
    window "night" {
      cron     = "0 22 * * *"
      duration = "8h"
      timezone = "Europe/Berlin"
      budget   = "50%"
    }
    window "release" {
      cron     = "@monthly"
      duration = "2h"
      budget   = "0"
    }
  }

  buffer {
    nodes    = 1
    replicas = 2
    resources {
      cpu    = 4
      memory = "8GiB"
      gpu    = 1
    }
  }

  schedule "day" {
    cron      = "0 8 * * mon-fri"
    duration  = "10h"
    timezone  = "Europe/Berlin"
    min_nodes = 3
    max_nodes = 10
  }
  schedule "weekend" {
    cron      = "0 0 * * sat"
    duration  = "48h"
    max_nodes = 0
    min_nodes = 0
  }

  prefetch "llama" {
    task {
      driver = "docker"
      config {
        image   = "registry.example/chat:1"
        command = "true"
      }
      env { PORT = "is its own here" }
    }
    resources {
      memory = "256MiB"
    }
  }
}

# The same pool, told apart by the class, and all that may be left out is.
worker_group "gpu-small" {
  node_pool = "gpu"
  node {
    cpu    = 4
    memory = 8192
    class  = "gpu-small"
  }
}

worker_group "own" {
  node {
    cpu    = 0.5
    memory = "512MiB"
  }
  target "exec" {
    command = ["/usr/local/bin/nodes", "x y"]
    config  = { region = "eu" }
  }
  scale_down {}
}

worker_group "here" {
  node {
    cpu    = 2
    memory = "512MiB"
  }
  target "process" {}
}
