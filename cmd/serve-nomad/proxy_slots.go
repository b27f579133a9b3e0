package main

import (
	"context"
	"net"

	"github.com/serve-nomad/serve-nomad/listeners"
)

// openSlots opens the port at which other proxies ask for slots, or takes it
// over. Where another process has it the keeper tries again, and says so.
func (p *proxyProcess) openSlots(ctx context.Context) {
	if p.keeper == nil {
		return
	}
	p.keeper.watcher = p.watcher
	p.slotsMu.Lock()
	defer p.slotsMu.Unlock()
	listener, err := p.before.Open(ctx, "gatekeeper", p.keeper.address, listeners.Options{}, p.log)
	if err == nil {
		p.slotsPort = listener
	}
}

// listenForSlots gives the keeper the port.
func (p *proxyProcess) listenForSlots(ctx context.Context) (net.Listener, error) {
	p.slotsMu.Lock()
	defer p.slotsMu.Unlock()
	first := p.slotsUsed == nil
	if p.slotsPort == nil {
		listener, err := listeners.Open(ctx, "gatekeeper", p.keeper.address, listeners.Options{}, p.log)
		if err != nil {
			return nil, err
		}
		p.slotsPort = listener
	}
	if first {
		p.parts.Go(p.slotsPort.Run)
	}
	p.slotsUsed = p.slotsPort.Attach()
	return p.slotsUsed, nil
}

// keepSlotsAgain takes back the book that a process was given that did not take
// over after all.
func (p *proxyProcess) keepSlotsAgain(state []byte) {
	if len(state) == 0 {
		return
	}
	if err := p.keeper.Inherit(state); err != nil {
		p.log.Error("the book of slots is begun anew", "error", err)
	}
	p.slotsMu.Lock()
	defer p.slotsMu.Unlock()
	if p.slotsUsed != nil {
		p.slotsUsed.Detach() // so that the keeper takes it anew
	}
}

// listeners returns all that the next process takes over.
func (p *proxyProcess) listeners() []*listeners.Listener {
	var all []*listeners.Listener
	for _, port := range p.ports() {
		all = append(all, port.listener)
	}
	p.slotsMu.Lock()
	defer p.slotsMu.Unlock()
	if p.slotsUsed != nil {
		all = append(all, p.slotsPort)
	}
	return all
}
