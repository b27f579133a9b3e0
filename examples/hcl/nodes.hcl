# Nodes that follow the replicas: load brings replicas, replicas that have no
# place bring nodes, and when the load is over both go. It shows a worker group
# whose nodes are Nomad clients on the leader's own machine, each of them with
# room for two replicas, and the delays short enough to watch. It runs the same
# program as hello.hcl.
#
# run: serve-nomad dev examples/hcl/nodes.hcl
#
# try: curl 'http://127.0.0.1:8000/nodes?sleep=0.5'
# try: for i in $(seq 40); do curl -s 'http://127.0.0.1:8000/nodes?sleep=5' & done; wait
# try: sh examples/hcl/nodes/waves.sh
# try: serve-nomad node-groups
# try: serve-nomad nodes

variable "max_nodes" {
  type        = number
  default     = 4
  description = "How many nodes there may be."
}

variable "python" {
  type        = string
  default     = "python3"
  description = "The interpreter, as the nodes find it: Python 3.9 or later."
}

application "nodes" {
  route_prefix    = "/nodes"
  request_timeout = "120s"

  deployment "render" {
    worker_group         = "cpu"
    max_ongoing_requests = 4
    max_queued_requests  = 200

    autoscaling {
      min_replicas            = 0
      max_replicas            = 2 * var.max_nodes
      target_ongoing_requests = 2

      # Ray Serve's defaults wait 30 s before they add and 10 minutes before they
      # take away.
      upscale_delay           = "1s"
      downscale_delay         = "15s"
      downscale_to_zero_delay = "30s"
      look_back_period        = "5s"
    }

    # Two of these fill a node, by cores and by memory.
    resources {
      cpu    = 0.8
      memory = "200MiB"
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

worker_group "cpu" {
  min_nodes    = 0
  max_nodes    = var.max_nodes
  idle_timeout = "15s"

  # What a node has, before there is one to look at.
  node {
    cpu     = 2
    memory  = "512MiB"
    drivers = ["raw_exec"]
  }

  # A server starts these itself, for development and demonstrations. Others are
  # made by a plugin of the Nomad Autoscaler or by a command of yours.
  target "process" {}

  # When two nodes are half full, the replicas of one move to the other and it
  # goes: one node at a time.
  scale_down {
    consolidate_after = "20s"
    budget            = "1"
  }
}
