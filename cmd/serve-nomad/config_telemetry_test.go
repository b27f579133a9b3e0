package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTelemetryInTheConfiguration(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{`proxy { admin_address = "127.0.0.1:8003" }`, ""},
		{`proxy { admin_address = "8002" }`, `proxy.admin_address = "8002"`},
		{`proxy { access_log { enabled = true } }`, ""},
		{`proxy { access_log { output = "" } }`, "proxy.access_log.output is empty"},
		{`proxy { access_log { format = "text" } }`, `format = "text": want json or combined`},
		{`proxy { access_log { sample = 1.5 } }`, "sample = 1.5"},
		{`proxy { access_log { sample = -1 } }`, "sample = -1"},
		{`proxy { access_log { sample = "some" } }`, "config.hcl:2"},
		{`proxy { access_log { slow = "-1s" } }`, `slow = "-1s"`},
		{`proxy { access_log { slow = "1" } }`, `slow = "1"`},
		{`proxy { access_log { headers = ["Referer", "cookie"] } }`, "cookie holds secrets"},
		{`proxy { access_log { headers = ["a b"] } }`, `"a b" is not the name of a header`},
		{`proxy { access_log { headers = ["a", "b", "c", "d", "e", "f", "g", "h", "i"] } }`, "at most 8"},
		{`proxy { access_log { colour = "red" } }`, "config.hcl:2"},
		{`proxy { tracing { enabled = true } }`, ""},
		{`proxy { tracing { endpoint = "localhost:4318" } }`, `endpoint = "localhost:4318"`},
		{`proxy { tracing { sample = 2 } }`, "proxy.tracing.sample = 2"},
	} {
		// A block on one line may not have another one in it.
		inner := strings.TrimSuffix(strings.TrimPrefix(c.text, "proxy { "), " }")
		c.text = "proxy {\n" + inner + "\n}\n"
		file := filepath.Join(t.TempDir(), "config.hcl")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readConfig(file)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.text, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: got %v, want %q in it", c.text, err, c.says)
		}
	}
}

func TestSamplerOfTheEnvironmentIsChecked(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "sometimes")
	cfg := defaultConfig()
	if err := cfg.complete(); err != nil {
		t.Errorf("without tracing: %v", err)
	}
	cfg.Proxy.Tracing.Enabled = true
	if err := cfg.complete(); err == nil || !strings.Contains(err.Error(), "OTEL_TRACES_SAMPLER") {
		t.Errorf("with tracing: %v", err)
	}
	if cfg.Proxy.AccessLog.slow != time.Second {
		t.Errorf("slow is %v", cfg.Proxy.AccessLog.slow)
	}
}
