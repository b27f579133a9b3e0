package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/routes"
)

// bench is one run.
type bench struct {
	options
	log     io.Writer
	dir     string
	backend *process
	address string // of the backend
	port    string
	grpc    *process        // the backend that speaks gRPC
	grpcAt  string          // its address
	missing map[string]bool // programs that the log has named
}

// fleetMember is one proxy that runs, or two in a row.
type fleetMember struct {
	peer      peer
	turn      turn
	processes []*process
}

func newBench(ctx context.Context, o options, log io.Writer) (*bench, error) {
	b := &bench{options: o, log: log, dir: o.keep, missing: map[string]bool{}}
	var err error
	if b.dir == "" {
		b.dir, err = os.MkdirTemp("", "serve-nomad-bench-")
	} else {
		err = os.MkdirAll(b.dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o700); err != nil {
			return nil, err
		}
	}
	if b.address, err = freeAddress(); err != nil {
		return nil, err
	}
	_, b.port, _ = net.SplitHostPort(b.address) // freeAddress has one
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// On every address of the loopback, so that it can pass for many replicas.
	b.backend, err = startProcess(ctx, "backend", b.dir, []string{program, childBackend, ":" + b.port}, []string{b.address})
	if err != nil {
		return nil, err
	}
	if b.grpcAt, err = freeAddress(); err == nil {
		b.grpc, err = startProcess(ctx, "grpc", b.dir, []string{program, childGRPC, b.grpcAt}, []string{b.grpcAt})
	}
	if err != nil {
		b.backend.stop()
		return nil, err
	}
	return b, nil
}

func (b *bench) close() {
	b.backend.stop()
	b.grpc.stop()
	if b.keep == "" {
		_ = os.RemoveAll(b.dir) // what is left is in the folder for that
	}
}

func (b *bench) note(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

// freeAddress is an address on the loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// installed says whether the program is, and names it once if it is not.
func (b *bench) installed(program string) bool {
	if program == "" {
		return true
	}
	_, err := exec.LookPath(program)
	if err != nil && !b.missing[program] {
		b.missing[program] = true
		b.note("%s is not installed: what needs it is left out", program)
	}
	return err == nil
}

// measure runs one scenario with every proxy that can take part.
func (b *bench) measure(ctx context.Context, s scenario) (result, error) {
	r := result{Scenario: s.name, Title: s.title, Unit: s.unit, Per: s.per}
	if !b.installed(s.needs) {
		return r, nil
	}
	b.note("%s: %s", s.name, s.title)
	if s.holds != nil {
		return b.measureMemory(ctx, s, r)
	}
	r.Duration, r.Rounds = b.duration, b.rounds
	if s.paced {
		r.Rate = b.rate
	}
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
		r.Rows = append(r.Rows, row{Peer: m.peer.name})
		warming := m.turn // its caches and pools are filled
		warming.duration = min(time.Second, b.duration)
		if _, err := s.load(ctx, warming); err != nil {
			return r, fmt.Errorf("%s, %s: %w", s.name, m.peer.name, err)
		}
	}
	for round := range b.rounds {
		for n := range fleet {
			i := (n + round) % len(fleet) // nobody always comes after the same one
			taken, err := b.take(ctx, s, fleet[i])
			if err != nil {
				return r, fmt.Errorf("%s, %s: %w", s.name, fleet[i].peer.name, err)
			}
			r.Rows[i].Samples = append(r.Rows[i].Samples, taken)
		}
	}
	return r, nil
}

// take has one proxy take its turn.
func (b *bench) take(ctx context.Context, s scenario, m fleetMember) (sample, error) {
	before, err := cpu(m.processes)
	if err != nil {
		return sample{}, err
	}
	got, err := s.load(ctx, m.turn)
	if err != nil {
		return sample{}, err
	}
	after, err := cpu(m.processes)
	if err == nil && got.Requests == 0 {
		err = fmt.Errorf("no request was answered, %d failed", got.Failed)
	}
	return sample{measured: got, CPU: after - before}, err
}

// launch starts every proxy of the scenario.
func (b *bench) launch(ctx context.Context, s scenario) ([]fleetMember, error) {
	var fleet []fleetMember
	for _, p := range peers() {
		if !slices.Contains(b.peers, p.name) || !b.installed(p.program) {
			continue
		}
		if (s.grpc && p.grpc == nil) || (p.alone && !s.small) || (s.chain && !p.chains) || (s.h2 && p.argv == nil) || (s.holds != nil && p.argv == nil) {
			continue
		}
		m, err := b.member(ctx, s, p)
		if err != nil {
			m.stop()
			if p.name == ours {
				return fleet, err
			}
			b.note("%s is left out: %v", p.name, err)
			continue
		}
		fleet = append(fleet, m)
	}
	return fleet, nil
}

// member starts one proxy, or two in a row.
func (b *bench) member(ctx context.Context, s scenario, p peer) (fleetMember, error) {
	m := fleetMember{peer: p, turn: turn{address: b.address, dir: b.dir, duration: b.duration, rate: b.rate}}
	if p.argv == nil {
		m.processes = []*process{b.backend}
		return m, nil
	}
	if s.grpc {
		return b.memberGRPC(ctx, s, m)
	}
	backends := []string{b.address}
	if s.chain {
		inner, err := b.start(ctx, &m, p.name+"-"+s.name+"-inner", instance{Backends: backends})
		if err != nil {
			return m, err
		}
		backends = []string{inner.Address}
	}
	i := instance{Backends: backends, Prefix: "/app"}
	if p.name == haproxyPlainName {
		i.Prefix = ""
	}
	if b.profile != "" && p.name == ours {
		i.Profile = filepath.Join(b.profile, s.name+".pprof")
	}
	i, err := b.start(ctx, &m, p.name+"-"+s.name, i)
	m.turn.prefix, m.turn.address = "/app", i.Address
	if s.h2 {
		m.turn.address = i.H2
	}
	return m, err
}

// memberGRPC starts one proxy of gRPC.
func (b *bench) memberGRPC(ctx context.Context, s scenario, m fleetMember) (fleetMember, error) {
	m.peer.argv = m.peer.grpc
	i := instance{Backends: []string{b.grpcAt}, Protocol: routes.ProtocolGRPC}
	if b.profile != "" && m.peer.name == ours {
		i.Profile = filepath.Join(b.profile, s.name+".pprof")
	}
	i, err := b.start(ctx, &m, m.peer.name+"-"+s.name, i)
	m.turn.address = i.H2
	return m, err
}

// start starts one proxy and adds it to the member's processes.
func (b *bench) start(ctx context.Context, m *fleetMember, name string, i instance) (instance, error) {
	program, err := m.peer.find()
	if err != nil {
		return i, err
	}
	i.Dir = filepath.Join(b.dir, name)
	if err := os.MkdirAll(i.Dir, 0o700); err != nil {
		return i, err
	}
	if i.Address, err = freeAddress(); err != nil {
		return i, err
	}
	i.H2 = i.Address
	if m.peer.ownH2 {
		if i.H2, err = freeAddress(); err != nil {
			return i, err
		}
	}
	argv, err := m.peer.argv(program, i)
	if err != nil {
		return i, err
	}
	p, err := startProcess(ctx, name, i.Dir, argv, []string{i.Address, i.H2})
	if err != nil {
		return i, err
	}
	m.processes = append(m.processes, p)
	return i, nil
}

// stop ends the member's proxies.
func (m fleetMember) stop() {
	if m.peer.argv == nil {
		return // the backend is not its own
	}
	for _, p := range m.processes {
		p.stop()
	}
}

// roomForFiles raises the limit on open files as far as it goes, and returns it.
func roomForFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Cur, 1<<30)), nil
}
