# A gRPC server in Go, built from its source when a replica starts. It shows a
# deployment that speaks gRPC, whose health service is its health check, with
# calls of one message and of many; and that plain HTTP gets there as well.
#
# run: serve-nomad dev examples/hcl/grpc.hcl          (the nodes need Go 1.25 or later, and a Go module proxy)
#
# try: curl 'http://127.0.0.1:8000/grpc?name=Nomad'
# try: grpcurl -plaintext -proto examples/hcl/grpc/greeter.proto -H 'application: grpc' -d '"Nomad"' 127.0.0.1:8000 greeter.v1.Greeter/Greet
# try: grpcurl -plaintext -proto examples/hcl/grpc/greeter.proto -authority grpc.example -d 5 127.0.0.1:8000 greeter.v1.Greeter/Count

application "grpc" {
  route_prefix    = "/grpc"
  ingress         = deployment.greeter
  request_timeout = "120s"

  deployment "greeter" {
    protocol             = "grpc"
    num_replicas         = 2
    max_ongoing_requests = 100 # streams, for as long as they last
    max_queued_requests  = 1000

    resources {
      cpu    = 0.5
      memory = "512MiB" # for the build; the server itself needs a tenth
    }

    task {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["local/start.sh"]
      }

      template {
        data            = file("grpc/main.go")
        destination     = "local/main.go"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("grpc/go.mod")
        destination     = "local/go.mod"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("grpc/go.sum")
        destination     = "local/go.sum"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
      template {
        data            = file("grpc/start.sh")
        destination     = "local/start.sh"
        left_delimiter  = "<<<<"
        right_delimiter = ">>>>"
        change_mode     = "noop"
      }
    }

    health_check {
      timeout = "2s"
    }
    graceful_shutdown_timeout = "25s"
  }
}
