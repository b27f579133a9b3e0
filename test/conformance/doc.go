// Package conformance holds the tests that try to break the proxy from outside:
// published suites (h2spec, the gRPC interop cases), malformed requests, hostile
// replicas, slow clients, overload and replicas that come and go under load.
//
// They see the proxy only through its ports and through what its replicas get.
// The short form runs with every `go test`; `make conformance` runs the long
// form for SERVE_NOMAD_CONFORMANCE_MINUTES minutes for each test that goes on
// for as long as it is let, with the suites built from the nested module tools.
package conformance
