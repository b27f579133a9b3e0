variable "tag" {
  type = string
}
locals {
  a = local.b
  b = local.a
  c = bcrypt("x")
}
application "Search" {
  route_prefix = "/search/"
  ingress      = deployment.pipelin
  request_timeout = 60
  colour = 3

  deployment "pipeline" {
    handles              = [deployment.embeder, "pipeline", deployment.embedder]
    num_replicas         = "many"
    num_replica = 3
    max_ongoing_requests = 1e300
    resources {
      cpu    = -1
      memory = "1Gi"
      gpu = 0.5
    }
    worker_group = "cpu"
    autoscaling { 
    }
    task {
      driver = "docker"
      drivr = "x"
      kill_timeout = "3s"
      resources { 
        cpu = 3
      }
      config {
        image = "x:${var.tagg}"
      }
      template {
        dat = "x"
        splay = "foo"
      }
      env {
        PORT = 3
        X = [1]
        Y = nod.x
      }
      foo { }
    }
    user_config = [1]
  }
  deployment "embedder" {
    handles = [deployment.pipeline]
    task "x" { driver = "raw_exec" }
  }
  deployment "notask" {
  }
}
worker_group "x" {
}
