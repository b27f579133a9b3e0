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
	if err != nil {
		return nil, listenFault(err, address, field)
	}
	return l, nil
}

// listenFault is the error for a port that could not be opened.
func listenFault(err error, address, field string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s = %q: the port is in use%s; stop what has it, or set another address", field, address, portOwner(address))
	}
	return fmt.Errorf("%s = %q: %w", field, address, err)
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
