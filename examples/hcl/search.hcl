# A pipeline of three deployments that searches a small collection of texts.
# The pipeline takes the request and calls the other two through handles, which
# are URLs on the node's own proxy:
#
#   pipeline --> embedder   finds candidates: hashed n-grams, cosine similarity
#            --> ranker     puts them in order: BM25, blended with the cosine
#
# Each deployment has its own replicas, limits and resources. All of it is plain
# Python, from the standard library; there is nothing to download.
#
# run: serve-nomad dev examples/hcl/search.hcl
#      serve-nomad deploy -var ranker_replicas=4 examples/hcl/search.hcl
#
# try: curl 'http://127.0.0.1:8000/search?q=how+do+stars+die'

variable "pipeline_replicas" {
  type        = number
  default     = 2
  description = "How many replicas take the requests."
}

variable "embedder_replicas" {
  type        = number
  default     = 1
  description = "How many replicas find candidates."
}

variable "ranker_replicas" {
  type        = number
  default     = 2
  description = "How many replicas put them in order."
}

variable "gpu" {
  type        = number
  default     = 0
  description = "GPUs for each replica of the ranker. This ranker uses none; a model of your own would."
}

variable "python" {
  type        = string
  default     = "python3"
  description = "The interpreter, as the nodes find it: Python 3.9 or later."
}

application "search" {
  route_prefix    = "/search"
  ingress         = deployment.pipeline
  request_timeout = "60s"

  deployment "pipeline" {
    handles              = [deployment.embedder, deployment.ranker]
    num_replicas         = var.pipeline_replicas
    max_ongoing_requests = 10
    max_queued_requests  = 100

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = var.python
        args    = ["local/pipeline.py"]
      }
      template {
        data            = file("search/pipeline.py")
        destination     = "local/pipeline.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("search/replica.py")
        destination     = "local/replica.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      path    = "/healthz"
      period  = "2s"
      timeout = "1s"
    }
    graceful_shutdown_timeout = "20s"
  }

  deployment "embedder" {
    num_replicas         = var.embedder_replicas
    max_ongoing_requests = 10

    resources {
      cpu    = 0.1
      memory = "64MiB"
    }

    task {
      driver = "raw_exec"
      config {
        command = var.python
        args    = ["local/embedder.py"]
      }
      template {
        data            = file("search/embedder.py")
        destination     = "local/embedder.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("search/replica.py")
        destination     = "local/replica.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("search/corpus.json")
        destination     = "local/corpus.json"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      path = "/healthz"
    }
  }

  deployment "ranker" {
    num_replicas         = var.ranker_replicas
    max_ongoing_requests = 5

    resources {
      cpu    = 0.1
      memory = "64MiB"
      gpu    = var.gpu
    }

    # The file that SERVE_USER_CONFIG names holds this as JSON.
    user_config = {
      bm25_weight = 0.6 # the cosine has the rest
    }

    task {
      driver = "raw_exec"
      config {
        command = var.python
        args    = ["local/ranker.py"]
      }
      template {
        data            = file("search/ranker.py")
        destination     = "local/ranker.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("search/replica.py")
        destination     = "local/replica.py"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("search/corpus.json")
        destination     = "local/corpus.json"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      path = "/healthz"
    }
  }
}
