package health

import (
	"strings"
	"testing"

	"github.com/serve-nomad/serve-nomad/routes"
)

func TestHealthPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/healthz": true, "/": true, "/a?b=c": true, "//a": true,
		"": false, "healthz": false, "@evil/": false, ":80/x": false, "/a b": false, "/a\r\nX: y": false, "/ä": false,
		"/" + strings.Repeat("a", maxPath): false,
	} {
		if got := isPath(path); got != want {
			t.Errorf("%.20q: %v, want %v", path, got, want)
		}
	}
}

func TestHealthCheckOfTheTable(t *testing.T) {
	for name, c := range map[string]struct {
		d    routes.Deployment
		want Check
	}{
		"none":             {routes.Deployment{}, Check{}},
		"a path":           {routes.Deployment{HealthPath: "/x"}, Check{Path: "/x"}},
		"http by name":     {routes.Deployment{Protocol: "http", HealthPath: "/x"}, Check{Path: "/x"}},
		"a bad path":       {routes.Deployment{HealthPath: "x y"}, Check{}},
		"h2c":              {routes.Deployment{Protocol: "h2c"}, Check{Protocol: "h2c"}},
		"h2c and bad path": {routes.Deployment{Protocol: "h2c", HealthPath: "x"}, Check{}},
		"grpc":             {routes.Deployment{Protocol: "grpc", HealthPath: "/x", HealthService: "s"}, Check{Protocol: "grpc", Service: "s"}},
	} {
		if got := CheckOf(c.d); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
