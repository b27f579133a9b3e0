package gpuplugin

import (
	"context"
	"reflect"
	"time"

	"github.com/hashicorp/nomad/plugins/device/proto"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// deviceService is the service by which Nomad learns of devices and gives them
// out.
type deviceService struct{ p *plugin }

// Fingerprint tells Nomad of the devices: at once, and when they have changed.
// It ends only with Nomad: if it ended before, Nomad would forget all devices
// until it is restarted.
func (s *deviceService) Fingerprint(_ *proto.FingerprintRequest, stream proto.DevicePlugin_FingerprintServer) error {
	return s.p.fingerprint(stream.Context(), func(groups []gpushare.Group) error {
		return stream.Send(fingerprintResponse(groups))
	})
}

// fingerprint hands on the groups of devices until the context ends.
func (p *plugin) fingerprint(ctx context.Context, send func([]gpushare.Group) error) error {
	var sent []gpushare.Group
	for first := true; ; first = false {
		groups := gpushare.Groups(p.look(ctx))
		if ended(ctx) {
			return nil
		}
		if first || !reflect.DeepEqual(groups, sent) {
			if err := send(groups); err != nil {
				return err
			}
			sent = groups
		}
		config, _ := p.current()
		if !p.pause(ctx, config.Period) {
			return nil
		}
	}
}

// pause waits for the next look; false: there is none.
func (p *plugin) pause(ctx context.Context, period time.Duration) bool {
	timer := time.NewTimer(period)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-p.driver.Woken():
	}
	return !ended(ctx)
}

// ended tells whether nobody listens any more.
func ended(ctx context.Context) bool { return ctx.Err() != nil }

// Reserve says what a task needs to use its devices.
func (s *deviceService) Reserve(ctx context.Context, r *proto.ReserveRequest) (*proto.ReserveResponse, error) {
	reservation, err := s.p.reserve(ctx, r.GetDeviceIds())
	if err != nil {
		return nil, err
	}
	return &proto.ReserveResponse{ContainerRes: containerReservation(reservation)}, nil
}

// Stats tells Nomad how much of the GPUs is used, for as long as it listens.
func (s *deviceService) Stats(r *proto.StatsRequest, stream proto.DevicePlugin_StatsServer) error {
	interval := r.GetCollectionInterval().AsDuration()
	if interval <= 0 {
		interval = time.Second
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := stream.Send(s.p.stats(time.Now())); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-ticker.C:
		}
	}
}
