// Package nonblock has the system calls of a socket that does not block, without
// what Go does around a call that might: it hands the thread's work to others if
// the call takes long, and wakes the runtime's own watcher thread (sysmon) for
// that whenever the process had been idle. At a few thousand requests a second
// that watcher is a fifth of what a proxy costs.
//
// The descriptor must be in non-blocking mode, as those of package net are, and
// the bytes of a call few: for its time a thread can do nothing else, and the
// garbage collector waits for it.
package nonblock

// MaxWrite is how many bytes are few enough, of loopback's pace.
const MaxWrite = 64 << 10
