package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// listen listens on address. An error names the field to change and, where it
// can be known, who has the port.
func listen(ctx context.Context, address, field string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s = %q: the port is in use%s; stop what has it, or set another address", field, address, portOwner(address))
	}
	if err != nil {
		return nil, fmt.Errorf("%s = %q: %w", field, address, err)
	}
	return l, nil
}

func portOwner(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return ""
	}
	if owner := nomaddev.PortOwner(number); owner != "" {
		return " by " + owner
	}
	return ""
}
