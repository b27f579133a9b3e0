application "a" {
  route_prefix = = "/a"
  ingress deployment.b
  request_timeout = "1m" "2m"
  deployment b {
    resources {
      cpu = [1, 2
    }
  }
}
