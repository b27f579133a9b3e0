package appspec

import (
	"slices"
	"strings"
	"testing"
)

func TestProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		says, protocol, path, service string
	}{
		"nothing is HTTP/1.1":                {"", "", "/healthz", ""},
		"http is the same as nothing":        {`protocol = "http"`, "", "/healthz", ""},
		"h2c is connected to":                {`protocol = "h2c"`, ProtocolH2C, "", ""},
		"h2c with a path is asked there":     {"protocol = \"h2c\"\nhealth_check {\npath = \"/up\"\n}", ProtocolH2C, "/up", ""},
		"grpc is asked by its service":       {`protocol = "grpc"`, ProtocolGRPC, "", ""},
		"grpc may be asked for one of them":  {"protocol = \"grpc\"\nhealth_check {\nservice = \"a.v1.B\"\n}", ProtocolGRPC, "", "a.v1.B"},
		"the block's other fields are as is": {"protocol = \"grpc\"\nhealth_check {\nperiod = \"3s\"\n}", ProtocolGRPC, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := accept(t, source(c.says, "")).Applications[0].Deployments[0]
			if d.Protocol != c.protocol || d.HealthCheck.Path != c.path || d.HealthCheck.Service != c.service {
				t.Errorf("protocol %q, path %q, service %q", d.Protocol, d.HealthCheck.Path, d.HealthCheck.Service)
			}
		})
	}
}

func TestProtocolFaults(t *testing.T) {
	at := "application.shop.deployment.b"
	for name, c := range map[string]struct {
		change func(b *Deployment)
		path   string
		says   string
	}{
		"an unknown one":      {func(b *Deployment) { b.Protocol = "h3" }, at + ".protocol", `"http", "h2c" and "grpc"`},
		"grpc with a path":    {func(b *Deployment) { b.Protocol = "grpc" }, at + ".health_check.path", "leave path out"},
		"h2c with a bad path": {func(b *Deployment) { b.Protocol, b.HealthCheck.Path = "h2c", "up" }, at + ".health_check.path", "slash"},
		"http without a path": {func(b *Deployment) { b.HealthCheck.Path = "" }, at + ".health_check.path", "slash"},
		"http with a service": {func(b *Deployment) { b.HealthCheck.Service = "a" }, at + ".health_check.service", `protocol = "grpc"`},
		"a service with a space": {func(b *Deployment) {
			b.Protocol, b.HealthCheck.Path, b.HealthCheck.Service = "grpc", "", "a b"
		}, at + ".health_check.service", "name is needed"},
		"a long service": {func(b *Deployment) {
			b.Protocol, b.HealthCheck.Path, b.HealthCheck.Service = "grpc", "", strings.Repeat("a", 201)
		}, at + ".health_check.service", "up to 200"},
		"a number from a gRPC replica": {func(b *Deployment) {
			b.Protocol, b.HealthCheck.Path = "grpc", ""
			b.Autoscaling = &Autoscaling{Metric: &Metric{Source: SourceReplica}}
		}, at + ".autoscaling.metric.source", "prometheus"},
	} {
		t.Run(name, func(t *testing.T) {
			app := sound()
			c.change(app.Deployments[1])
			faults := Validate(app)
			if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Path == c.path && strings.Contains(f.Message, c.says) }) {
				t.Errorf("%s: %q is wanted, not %v", c.path, c.says, faults)
			}
		})
	}
}

// TestProtocolNeedsNewReplicas holds that a replica which speaks something else
// is another version, and that naming the default is none.
func TestProtocolNeedsNewReplicas(t *testing.T) {
	app := sound()
	b := app.Deployments[1]
	was := VersionOf(app, b)
	if b.Protocol = ProtocolHTTP; VersionOf(app, b) != was || len(Diff(sound(), app)) > 0 {
		t.Errorf("http by name is another version than http by default: %v", Diff(sound(), app))
	}
	for _, protocol := range []string{ProtocolH2C, ProtocolGRPC} {
		b.Protocol = protocol
		changes := Diff(sound(), app)
		if VersionOf(app, b) == was || len(changes) != 1 || changes[0].Path != "deployment.b.protocol" || changes[0].Effect != EffectReplace {
			t.Errorf("%s: version %s, was %s, changes %v", protocol, VersionOf(app, b), was, changes)
		}
	}
	b.Protocol, b.HealthCheck.Service = ProtocolGRPC, "a"
	if changes := Diff(sound(), app); len(changes) != 2 || changes[0].Path != "deployment.b.health_check.service" {
		t.Errorf("changes %v", changes)
	}
}
