// Command bench compares the proxy with its peers on this machine: what each
// costs in CPU time for the same requests, and how long these take.
//
//	make bench-proxy
//	go run ./test/bench -proxies=direct,ours,haproxy -scenarios=unary,paced -duration=5s
//
// A backend and every proxy that is installed are started once, on loopback,
// and have their turns in rounds, so that what else the machine does hits all
// alike. The CPU time is the proxy's own, user and system, read from /proc for
// all of its processes. Trust the ratios of one run, not the figures of two.
//
// Every proxy is told to do the same: to take /app off the path, to choose the
// backend with the fewest requests, to limit their number, to send
// X-Forwarded-For, -Proto and -Host and X-Request-Id, to pass on what comes as
// it comes, and to write no access log. "haproxy-plain" is HAProxy without any
// of that but the forwarding. "ours" is package proxy as `serve-nomad proxy`
// runs it, but that its routes are fixed instead of read from Consul.
//
// Load comes from wrk (saturated HTTP/1.1), h2load (h2c), and from this program
// where neither can do it: at a fixed rate, an open loop whose latency counts
// from when a request was due; and for streams. What is not installed is left
// out with a word. It runs on Linux.
package main
