package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestAnotherGatekeeperOfTheMachine(t *testing.T) {
	at := func(addresses ...string) (all []routes.Gatekeeper) {
		for _, address := range addresses {
			all = append(all, routes.Gatekeeper{Address: address, Passing: true})
		}
		return all
	}
	for name, c := range map[string]struct {
		all  []routes.Gatekeeper
		want string
	}{
		"none":                     {nil, ""},
		"itself":                   {at("10.0.0.1:8002"), ""},
		"one elsewhere":            {at("10.0.0.2:8002"), ""},
		"itself and one elsewhere": {at("10.0.0.1:8002", "10.0.0.2:8002"), ""},
		"one before it":            {at("10.0.0.1:8001", "10.0.0.1:8002"), "10.0.0.1:8001"},
		"one after it":             {at("10.0.0.1:8002", "10.0.0.1:9002"), ""}, // that one says it
	} {
		if got := anotherOf("10.0.0.1:8002", c.all); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// A gatekeeper that leaves says that Consul still names it where that may be so,
// not where Consul never did, or does not any more.
func TestAGatekeeperThatLeaves(t *testing.T) {
	for name, c := range map[string]struct {
		register, deregister int // what Consul answers
		warns                bool
	}{
		"in order":                       {200, 200, false},
		"and Consul does not follow":     {200, 500, true},
		"and Consul has forgotten it":    {200, 404, false},
		"and Consul has never taken it":  {500, 500, false},
		"that one before it has entered": {500, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			told := make(chan string, 10)
			consul := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				what, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/agent/service/"), "/")
				switch status := map[string]int{"register": c.register, "deregister": c.deregister}[what]; status {
				case 0:
					w.WriteHeader(http.StatusNotFound)
				default:
					w.WriteHeader(status)
					told <- what
				}
			}))
			defer consul.Close()
			var text output
			log := hclog.New(&hclog.LoggerOptions{Output: &text})
			cfg := defaultConfig()
			cfg.Consul.Address, cfg.Proxy.GatekeeperAddress = consul.URL, freePort(t)
			client, err := openConsul(cfg, log)
			if err != nil {
				t.Fatal(err)
			}
			k := newSlotKeeper(cfg, client, time.Now(), log)
			k.listen = func(ctx context.Context) (net.Listener, error) {
				return new(net.ListenConfig).Listen(ctx, "tcp", k.address)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); k.run(ctx) }()
			if what := <-told; what != "register" {
				t.Errorf("Consul was told first: %s", what)
			}
			for !k.announced.Load() && text.count("is not announced") == 0 {
				runtime.Gosched() // until the answer has come
			}
			cancel()
			k.leave()
			<-done
			if what := <-told; what != "deregister" {
				t.Errorf("Consul was told last: %s", what)
			}
			if got := text.count("still names") > 0; got != c.warns {
				t.Errorf("it warns: %t, and the log:\n%s", got, text.String())
			}
		})
	}
}
