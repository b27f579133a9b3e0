package main

import (
	"encoding/json"
	"strings"
	"testing"
)

const simulateSpec = `
application "app" {
  route_prefix = "/app"
  ingress      = deployment.a

  deployment "a" {
    worker_group = "cpu"
    resources {
      cpu    = 1
      memory = "1GiB"
    }
    task {
      driver = "docker"
      config {
        image = "a:1"
      }
    }
  }
}

worker_group "cpu" {
  max_nodes = 8
  price     = 2
  node {
    cpu    = 4
    memory = "16GiB"
  }
  target "none" {}
}
`

func simulateFiles() map[string]string {
	return map[string]string{
		"nodes.hcl": simulateSpec,
		"load.jsonl": `{"at": 0, "job": "a", "replicas": 8}` + "\n" +
			`{"at": 1800, "job": "app/a", "replicas": 0}` + "\n",
	}
}

func TestNodeGroupsSimulate(t *testing.T) {
	code, out, errs := inProcess(t, simulateFiles(), "node-groups", "simulate", "-spec", "nodes.hcl", "-load", "load.jsonl",
		"-until", "2h", "-vary", "idle_timeout=60s,15m", "-set", "delay=30s", "-json")
	if code != exitOK || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	var runs []simRun
	if err := json.Unmarshal([]byte(out), &runs); err != nil {
		t.Fatal(err)
	}
	if len(runs) != 2 || runs[0].Settings["idle_timeout"] != "60s" || runs[1].Settings["delay"] != "30s" {
		t.Fatalf("%+v", runs)
	}
	for i, idle := range []float64{1.0 / 60, 0.25} { // hours
		r := runs[i].Result
		most := 2 * (0.5 + idle + 0.02) // of two nodes
		if r.NodeHours < most-0.06 || r.NodeHours > most || r.Cost != 2*r.NodeHours || r.Launches != 2 || r.EndNodes != 0 || len(r.Broken) > 0 {
			t.Errorf("run %d, of about %.2f node-hours: %+v", i, most, r)
		}
	}
}

func TestNodeGroupsSimulatePatterns(t *testing.T) {
	for _, pattern := range []string{patternWave, patternBursts, patternWalk} {
		code, out, errs := inProcess(t, simulateFiles(), "node-groups", "simulate", "-spec", "nodes.hcl", "-pattern", pattern,
			"-low", "2", "-high", "20", "-until", "6h")
		if code != exitOK || errs != "" || !strings.HasPrefix(out, "Node Hours") || strings.Count(out, "\n") != 2 {
			t.Errorf("%s: exit code %d: %s%s", pattern, code, out, errs)
		}
	}
}

func TestNodeGroupsSimulateFaults(t *testing.T) {
	for line, want := range map[string]string{
		"-pattern wave":                                  "-spec is missing",
		"-spec nodes.hcl":                                "either -load or -pattern",
		"-spec nodes.hcl -pattern tide":                  "wave, bursts or walk",
		"-spec nodes.hcl -pattern wave -low 9 -high 3":   "in order",
		"-spec nodes.hcl -pattern wave -set idle=3s":     "no setting",
		"-spec nodes.hcl -pattern wave -set delay=x":     "no duration",
		"-spec nodes.hcl -pattern wave -set delay":       "name=value",
		"-spec nodes.hcl -pattern wave -set delay=1s,2s": "-vary takes these",
		"-spec nodes.hcl -pattern wave -fails 2":         "0 to 1",
		"-spec nodes.hcl -load gone.jsonl":               "gone.jsonl",
		"-spec nodes.hcl -load bad.jsonl":                `line 1: nodes.hcl has no deployment "b"`,
	} {
		files := simulateFiles()
		files["bad.jsonl"] = `{"at": 0, "job": "b", "replicas": 8}`
		code, _, errs := inProcess(t, files, append([]string{"node-groups", "simulate"}, strings.Fields(line)...)...)
		if code == exitOK || !strings.Contains(errs, want) {
			t.Errorf("%s: exit code %d, %q does not say %q", line, code, errs, want)
		}
	}
}
