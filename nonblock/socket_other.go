//go:build !unix

package nonblock

import "errors"

const possible = false

// Read is not possible here.
func (*Socket) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// Write is not possible here.
func (*Socket) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }
