// Package nomaddev runs real Nomad and Consul agents, and serve-nomad's own
// servers and proxies beside them, as child processes on one machine: for
// `serve-nomad dev` and for the end-to-end tests. It finds the agents' programs
// or builds the pinned ones, starts them on ports of their own, waits until they
// can be used, and leaves nothing behind, also after a crash.
//
// The agents are separate programs and are never linked. All that one run
// writes lies below its run folder:
//
//	<run folder>/logs/<name>.log    what the process wrote
//	<run folder>/pids/<name>.json   which process it is, so that a later run can end it
//	<run folder>/<name>/            its config file and its data
package nomaddev
