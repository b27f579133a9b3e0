package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// settleTime is how long a proxy has to free what it no longer needs.
const settleTime = 2 * time.Second

// measureMemory runs a scenario of memory: one proxy at a time, for it is one
// number, which does not depend on how busy the machine is.
func (b *bench) measureMemory(ctx context.Context, s scenario, r result) (result, error) {
	fleet, err := b.launch(ctx, s)
	defer func() {
		for _, m := range fleet {
			m.stop()
		}
	}()
	if err != nil {
		return r, err
	}
	for _, m := range fleet {
		h, err := s.holds(ctx, b, m)
		if err != nil {
			return r, fmt.Errorf("%s, %s: %w", s.name, m.peer.name, err)
		}
		r.Rows = append(r.Rows, row{Peer: m.peer.name, Held: &h})
	}
	return r, nil
}

// holdIdle opens connections, sends one request over each, and keeps them.
func holdIdle(ctx context.Context, b *bench, m fleetMember) (held, error) {
	files, err := roomForFiles()
	if err != nil {
		return held{}, err
	}
	count := min(b.idle, files-1000)
	if count < b.idle {
		b.note("the limit on open files allows %d idle clients only", count)
	}
	h := held{Count: count}
	clients, err := openClients(ctx, m.turn, 1)
	if err != nil {
		return h, err
	}
	if h.Before, err = memory(m.processes[0]); err != nil {
		return h, err
	}
	more, err := openClients(ctx, m.turn, count)
	clients = append(clients, more...)
	defer func() {
		for _, c := range clients {
			_ = c.nc.Close() // they have served
		}
	}()
	if err != nil {
		return h, err
	}
	if err := pause(ctx, settleTime); err != nil {
		return h, err
	}
	h.After, err = memory(m.processes[0])
	return h, err
}

// openClients opens connections and sends one request over each, a few at a
// time.
func openClients(ctx context.Context, t turn, count int) ([]*pacer, error) {
	clients := make([]*pacer, count)
	errs := make(chan error, count)
	var all sync.WaitGroup
	const atATime = 16
	for first := range atATime {
		all.Go(func() {
			for i := first; i < count; i += atATime {
				p := &pacer{}
				if err := p.dial(ctx, t.address); err != nil {
					errs <- err
					return
				}
				clients[i] = p
				if err := p.exchange(paceRequest(t, pathJSON)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return nil, fmt.Errorf("open %d connections: %w", count, err)
	default:
		return clients, nil
	}
}

// holdReplicas starts the proxy anew with many replicas, on as many addresses
// of the loopback, and sends requests until each must have had some.
func holdReplicas(ctx context.Context, b *bench, m fleetMember) (held, error) {
	h := held{Count: b.replicas}
	client, err := openClients(ctx, m.turn, 1)
	if err != nil {
		return h, err
	}
	defer client[0].nc.Close()
	if h.Before, err = memory(m.processes[0]); err != nil {
		return h, err
	}
	many := fleetMember{peer: m.peer, turn: m.turn}
	i := instance{Prefix: "/app"}
	if m.peer.name == haproxyPlainName {
		i.Prefix = ""
	}
	for n := range b.replicas {
		i.Backends = append(i.Backends, fmt.Sprintf("127.1.%d.%d:%s", n/250, 1+n%250, b.port))
	}
	i, err = b.start(ctx, &many, m.peer.name+"-replicas-many", i)
	defer many.stop()
	if err != nil {
		return h, err
	}
	many.turn.address = i.Address
	many.turn.rate, many.turn.duration = 2000, time.Duration(b.replicas)*5*time.Millisecond
	if _, err := pace(pathJSON)(ctx, many.turn); err != nil {
		return h, err
	}
	h.After, err = memory(many.processes[0])
	return h, err
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
