package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/serve-nomad/serve-nomad/api"
	"github.com/serve-nomad/serve-nomad/nomadjobs"
)

// logSource reads replicas' logs for the API out of Nomad.
type logSource struct{ nomad *nomadjobs.Client }

func (s logSource) Logs(ctx context.Context, r api.LogRequest) (io.ReadCloser, error) {
	log, err := s.nomad.Logs(ctx, nomadjobs.LogRequest{
		Replica: r.Replica, Task: r.Task, Stream: r.Stream, Follow: r.Follow, TailBytes: r.TailBytes,
	})
	switch {
	case errors.Is(err, nomadjobs.ErrNotFound):
		err = fmt.Errorf("%w: %w", api.ErrNotFound, err)
	case errors.Is(err, nomadjobs.ErrUnreachable):
		err = fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return log, err
}
