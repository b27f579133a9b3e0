GO      ?= go
LINT    := $(GO) tool -modfile=go.tools.mod golangci-lint
AGENTS   = $(GO) run ./cmd/serve-nomad dev prepare

.PHONY: help build test unit e2e conformance lint fmt update bench bench-proxy

help: ## what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

build: ## the binary, bin/serve-nomad
	$(GO) build -trimpath -o bin/serve-nomad ./cmd/serve-nomad

test: unit e2e ## everything: unit tests, then the whole on real Nomad and Consul agents

unit: ## unit, golden and property tests; no agents needed
	$(GO) vet ./...
	$(GO) test -race -shuffle=on -p 4 ./... # most of them wait more than they compute
	$(GO) test ./appspec ./gate ./h1 ./nonblock ./proxy ./upstream # what is different without the race detector

e2e: ## tests on real agents; builds the pinned ones once when they are not on PATH
	$(AGENTS)
	$(GO) test -race -tags e2e -count=1 -timeout 55m -p 1 ./consulsd ./nomadjobs ./test/nomad-dev

conformance: ## published suites and the long form of the tests that try to break the proxy; MINUTES=1 for each that goes on
	SERVE_NOMAD_CONFORMANCE_MINUTES=$(or $(MINUTES),1) $(GO) test -race -tags conformance -count=1 -timeout 120m ./test/conformance
	SERVE_NOMAD_RANDOM_WORLD=$(or $(MINUTES),1)m $(GO) test -race -count=1 -timeout 120m -run RandomWorld ./proxy

lint: ## formatting and static checks
	$(LINT) fmt --diff
	$(LINT) run

fmt: ## format the code
	$(LINT) fmt

update: ## rewrite golden files; look at the diff before you commit it
	$(GO) test ./appspec ./jobspec ./cmd/serve-nomad ./examples/hcl ./test/nomad-dev -update

bench: ## benchmarks, as BENCHMARKS.md reports them
	$(GO) test -run '^$$' -bench . -benchtime 2s ./autoscale ./controller ./gate ./nodescale ./nomadjobs ./placement ./proxy ./reconcile ./raftstate
	$(MAKE) bench-proxy

bench-proxy: ## the proxy beside HAProxy, nginx, Traefik and Caddy, those that are installed; BENCH_FLAGS=-help says what can be chosen
	$(GO) run ./test/bench $(BENCH_FLAGS)
