//go:build !unix

package main

import "os"

// reopenSignals is none where there are no such signals.
func reopenSignals() []os.Signal { return nil }
