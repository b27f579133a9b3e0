application "chat" {
  deployment "model" {
    worker_group = "gpu"
    node_pool    = "cpu"
    resources {
      cpu    = 9
      memory = "25GiB"
      gpu    = 2
    }
    task {
      driver = "raw_exec"
    }
  }
}

worker_group "gpu" {
  node_pool    = "all"
  min_nodes    = 3
  max_nodes    = 2
  idle_timeout = "0s"
  priority     = 1e9
  price        = -1
  spot         = "yes"
  labels       = { "a b" = "x", good = "line\nend" }
  env          = { NOMAD_ADDR = "x", "1a" = "y" }
  launch_timeout = 10
  drain_timeout  = "25h"
  node {
    cpu        = 8
    memory     = "24GiB"
    disk       = -1
    gpu        = 1
    gpu_model  = ""
    core_mhz   = -1
    datacenter = "a b"
    class      = "x/y"
    drivers    = ["docker", "a b"]
    attributes = { "attr.cpu.arch" = "amd64" }
  }
  target "aws-asg" {
    plugin = "x"
  }
  scale_down {
    consolidate       = 1
    consolidate_after = "0s"
    budget            = "150%"
    window "night" {
      cron     = "0 25 * * *"
      timezone = "Mars/Base"
      budget   = ""
    }
    window "night" {
      budget = "1"
    }
  }
  buffer {
    nodes    = 3
    replicas = 2
  }
  schedule "day" {
    cron      = "@every 5m"
    duration  = "1s"
    max_nodes = 2
  }
  schedule "none" {
    cron     = "@daily"
    duration = "1h"
  }
  prefetch "llama" {
    task {
      driver       = "java"
      kill_timeout = "1s"
    }
    resources {
      cpu = 16
    }
  }
  prefetch "nothing" {}
  prefetch {}
  taints = []
}

worker_group "default" {
  node {
    cpu        = 8
    memory     = "24GiB"
    gpu        = 0.5
    gpu_model  = "T4"
    gpu_memory = "16GiB"
  }
  target "plugin" {
    command = ["x"]
  }
  target "none" {}
  buffer {}
}

worker_group "first" {
  node_pool = "shared"
  node {
    cpu    = 8
    memory = "1GiB"
    class  = "a"
  }
  target "exec" {}
  labels = ["a"]
  buffer {
    replicas = 100
    resources {
      cpu    = 3
      memory = "64MiB"
    }
  }
}

worker_group "second" {
  node_pool = "shared"
  node {
    cpu     = 8
    memory  = "1GiB"
    class   = "a"
    drivers = "docker"
  }
  target "exec" {
    command = ["nodes.sh"]
  }
  buffer {
    resources {
      cpu = 1
    }
  }
}

worker_group "third" {
  node_pool = "shared"
  node {
    cpu    = 8
    memory = "1GiB"
  }
}
