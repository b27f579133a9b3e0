package appspec

import (
	"cmp"
	"slices"
	"strings"
)

// maxConfigName bounds the name of a Nomad variable, which has 128 characters at
// most and holds the name of the job.
const maxConfigName = 90

// reconfigure holds the rules of the block, and of what it makes of the
// user_config.
func (v *validator) reconfigure(path string, app *Application, d *Deployment) {
	r := d.Reconfigure
	if r == nil {
		return
	}
	if n := len(app.Name) + len(d.Name); n > maxConfigName && nameProblem(app.Name) == "" && nameProblem(d.Name) == "" {
		v.addf(path, "With this block the names of the application and of the deployment have at most %d characters together; they have %d.", maxConfigName, n)
	}
	switch {
	case r.Signal == "" && r.Path == "":
		v.addf(path, "How does a running replica learn of another user_config? Set signal = \"SIGHUP\", or path = \"/reconfigure\", for example.")
	case r.Signal != "" && r.Path != "":
		v.addf(path, "Give one of signal and path: a replica is sent the signal once the file has been written, or the config itself by POST.")
	}
	if r.Signal != "" {
		v.signal(path+".signal", r.Signal, d)
	}
	if r.Path != "" {
		v.reconfigurePath(path+".path", r.Path, d)
	}
	v.span(path+".timeout", r.Timeout, maxTimeout)
}

func (v *validator) signal(path, signal string, d *Deployment) {
	ends := "SIGTERM"
	if d.Task != nil {
		ends = cmp.Or(strings.ToUpper(d.Task.KillSignal), ends)
	}
	upper := strings.ToUpper(signal)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	switch {
	case signal == "SIGKILL" || signal == "SIGSTOP":
		v.addf(path, "No program can catch %s; use one that it can, such as \"SIGHUP\".", signal)
	case signal == ends:
		v.addf(path, "%s tells a replica to end; use another signal, such as \"SIGHUP\".", signal)
	case slices.Contains(signals(), signal):
	case slices.Contains(signals(), upper):
		v.addf(path, "A signal is written as %s; this is %s.", quote(upper), quote(signal))
	default:
		v.addf(path, "%s is no signal that Nomad can send; use one such as \"SIGHUP\" or \"SIGUSR1\".", quote(signal))
	}
}

// signals is those that Nomad can send and a program can catch.
func signals() []string {
	return []string{
		"SIGABRT", "SIGALRM", "SIGBUS", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT", "SIGPIPE",
		"SIGPROF", "SIGQUIT", "SIGSEGV", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1",
		"SIGUSR2", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
	}
}

func (v *validator) reconfigurePath(path, asked string, d *Deployment) {
	switch {
	case d.EffectiveProtocol() == ProtocolGRPC:
		v.addf(path, "A replica that speaks gRPC takes no POST; set signal = \"SIGHUP\", for example.")
	case strings.HasPrefix(asked, "//"): // which could name another host
		v.addf(path, "A path starts with one slash, such as \"/reconfigure\".")
	default:
		if problem := urlPathProblem(asked, requestRunes); problem != "" {
			v.addf(path, "%s", problem)
		}
	}
}
