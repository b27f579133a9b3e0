package main

import (
	"fmt"
	"strings"

	"github.com/serve-nomad/serve-nomad/api"
)

// runningText says what runs where.
func runningText(info devInfo) string {
	var out strings.Builder
	rows := [][2]string{}
	for _, app := range info.Applications {
		rows = append(rows, [2]string{app.Name, app.URL})
	}
	if len(info.Applications) == 0 {
		rows = append(rows, [2]string{"Applications", info.HTTP})
	}
	rows = append(rows,
		[2]string{"Node groups", strings.Join(info.WorkerGroups, ", ")},
		[2]string{"API", info.API},
		[2]string{"Nomad UI", orNone(info.Nomad, "/ui/")},
		[2]string{"Consul UI", orNone(info.Consul, "/ui/")},
		[2]string{"Logs", info.Logs},
	)
	fmt.Fprintf(&out, "\nserve-nomad dev is %s (pid %d):\n\n%s", info.Phase, info.Pid, indent(pairs(rows), "  "))
	switch {
	case info.Try != "":
		fmt.Fprintf(&out, "\nTry it:\n  %s\n", info.Try)
	case len(info.Applications) == 0:
		fmt.Fprintf(&out, "\nDeploy an application:\n  %s deploy <file>\n", program)
	}
	if lines := exports(info); len(lines) > 0 {
		fmt.Fprintf(&out, "\nFor the command lines of %s, nomad and consul:\n  export %s\n", program, strings.Join(lines, " "))
	}
	return out.String()
}

func orNone(base, path string) string {
	if base == "" {
		return ""
	}
	return base + path
}

// exports are the variables that command lines need to find the run, where it is
// not at the default addresses.
func exports(info devInfo) []string {
	var lines []string
	for _, v := range []struct{ name, value, normal string }{
		{api.AddressEnv, info.API, api.DefaultAddress},
		{"NOMAD_ADDR", info.Nomad, "http://127.0.0.1:4646"},
		{"CONSUL_HTTP_ADDR", info.Consul, "http://127.0.0.1:8500"},
	} {
		if v.value != "" && v.value != v.normal {
			lines = append(lines, v.name+"="+v.value)
		}
	}
	return lines
}

// failedText says what can be done when the deploy failed and all else runs.
func failedText(info devInfo) string {
	return runningText(info) + fmt.Sprintf("\nThe deploy did not succeed; why is above. Everything else runs, so that you can look:\n"+
		"  %s status\nPut it right and deploy it again:\n  %s deploy <file>\nCtrl-C stops it all.", program, program)
}
