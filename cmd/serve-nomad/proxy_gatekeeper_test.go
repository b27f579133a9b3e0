package main

import (
	"testing"

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
