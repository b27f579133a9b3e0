// Package proctable looks at the processes and mounts of this machine, as far as
// the system shows those of others.
package proctable
