package main

import (
	"context"
	"time"
)

// scenario is one kind of load.
type scenario struct {
	name, title string
	needs       string // program that makes the load; "": this one
	load        func(context.Context, turn) (measured, error)
	paced       bool
	h2          bool // HTTP/2 without TLS
	chain       bool // two proxies in a row
	grpc        bool // backends that speak gRPC
	small       bool // what a server can answer by itself
	unit        string
	per         float64 // the CPU time is given for so many requests
	holds       func(context.Context, *bench, fleetMember) (held, error)
}

// postScript has wrk send bodies of 10 kB.
const postScript = `wrk.method = "POST"
wrk.body = string.rep("x", 10240)
wrk.headers["Content-Type"] = "application/octet-stream"
`

// perGigabyte is how many answers of bigSize make 10^9 bytes.
const perGigabyte = 1e9 / float64(bigSize)

func scenarios() []scenario {
	const requests = "100k requests"
	return []scenario{
		{name: "unary", title: "GET of a small JSON, saturated", needs: "wrk", load: wrk(64, pathJSON, ""), small: true, unit: requests, per: 1e5},
		{name: "paced", title: "GET of a small JSON, at a fixed rate", load: pace(pathJSON), paced: true, small: true, unit: requests, per: 1e5},
		{name: "post", title: "POST of 10 kB, saturated", needs: "wrk", load: wrk(64, pathJSON, postScript), unit: requests, per: 1e5},
		{name: "big", title: "answers of 10 MB, 8 at a time", needs: "wrk", load: wrk(8, pathBig, ""), unit: "GB", per: perGigabyte},
		{name: "stream", title: "server-sent events, 64 streams of 200 a second", load: readStreams, unit: "100k events", per: 1e5},
		{name: "h2c", title: "GET of a small JSON over HTTP/2 without TLS, 8 connections of 8 streams, saturated", needs: "h2load", load: h2load(8, 8, pathJSON), h2: true, small: true, unit: requests, per: 1e5},
		{name: "grpc", title: "calls of gRPC with a message of 46 bytes each way, 8 connections of 8 streams, saturated", needs: "h2load", load: callGRPC(8, 8), h2: true, grpc: true, unit: "100k calls", per: 1e5},
		{name: "two", title: "GET of a small JSON through two proxies in a row, saturated; the CPU time of both", needs: "wrk", load: wrk(64, pathJSON, ""), chain: true, unit: requests, per: 1e5},
		{name: "idle", title: "memory of idle client connections", holds: holdIdle},
		{name: "replicas", title: "memory of many replicas, each with a connection that has been used", holds: holdReplicas},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// sample is one turn of one proxy.
type sample struct {
	measured
	CPU time.Duration `json:"cpu_ns"`
}

// held is what a proxy holds in memory, in bytes.
type held struct {
	Before int64 `json:"before"` // when it has answered one request
	After  int64 `json:"after"`
	Count  int   `json:"count"` // of what makes the difference
}

// row is one proxy in one scenario.
type row struct {
	Peer    string   `json:"proxy"`
	Samples []sample `json:"samples,omitempty"`
	Held    *held    `json:"held,omitempty"`
}

// result is one scenario.
type result struct {
	Scenario string        `json:"scenario"`
	Title    string        `json:"title"`
	Unit     string        `json:"unit,omitempty"`
	Per      float64       `json:"per,omitempty"`
	Rate     float64       `json:"rate,omitempty"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	Rounds   int           `json:"rounds,omitempty"`
	Rows     []row         `json:"rows"`
}
