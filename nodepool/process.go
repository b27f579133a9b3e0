package nodepool

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/proctable"
)

// ProcessConfig says how nodes are made on the server's own machine.
type ProcessConfig struct {
	Dir        string // each machine has a folder below it; servers on one machine share it
	NomadPath  string // the program; "": nomad of PATH
	ConsulPath string // the program; "": consul of PATH

	NomadServers     []string // host:port of RPC; empty: those that NomadAddr names
	Region           string   // of Nomad; "": as NomadAddr says
	ConsulServers    []string // host:port of serf LAN; empty: those that ConsulAddr names
	ConsulDatacenter string   // "": as ConsulAddr says

	NomadAddr   string // base URL of the HTTP API
	NomadToken  string
	ConsulAddr  string // base URL of the HTTP API, or host:port
	ConsulToken string
}

// How long a machine's processes have to end by themselves.
const (
	drainGrace  = 10 * time.Second // what still runs there, ended by Nomad
	nomadGrace  = 5 * time.Second
	taskGrace   = 5 * time.Second  // what Nomad has left behind
	consulGrace = 10 * time.Second // it tells the other agents, for 3 s
)

// startingFor is how long a machine that a call was starting is taken to be
// starting still when the call never ended: its server was killed.
const startingFor = 2 * time.Minute

// processTarget makes nodes that are Nomad clients on this machine, each with a
// Consul agent of its own: two Nomad clients that share one take each other's
// services out of it.
//
// A machine belongs to no server. It goes on when the server ends, and any
// server on this machine that has the same folder finds it there.
type processTarget struct {
	config ProcessConfig
	host   string // this machine's name
	http   *http.Client
	log    hclog.Logger
}

func newProcess(c ProcessConfig, log hclog.Logger) (*processTarget, error) {
	if runtime.GOOS == "windows" {
		return nil, fmt.Errorf("%w: nodes of the target process need signals and file locks as unix has them", ErrNotSupported)
	}
	dir, err := realPath(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("the folder of the machines: %w", err)
	}
	c.Dir = dir
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find this machine's name: %w", err)
	}
	c.NomadPath, c.ConsulPath = cmp.Or(c.NomadPath, "nomad"), cmp.Or(c.ConsulPath, "consul")
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()} //nolint:forcetypeassert // it is one
	return &processTarget{config: c, host: host, http: client, log: log}, nil
}

// realPath makes a folder and returns it as the kernel names it.
func realPath(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("none is configured")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// Launch starts a machine's agents, those of them that do not run, and returns
// when Nomad answers.
func (p *processTarget) Launch(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (string, error) {
	f, err := p.folder(m.ID)
	if err != nil {
		return "", err
	}
	unlock, err := p.lock(ctx, m.ID)
	if err != nil {
		return "", err
	}
	defer unlock()
	r, err := f.load()
	if errors.Is(err, fs.ErrNotExist) {
		if m.Instance != "" && m.Instance != p.name(m.ID) {
			return "", p.elsewhere(m)
		}
		r = &record{ClusterID: b.ClusterID, Group: b.Group, ID: m.ID, Token: m.ID + "/" + rand.Text(), Made: time.Now()}
	} else if err != nil {
		return "", err
	}
	if err = r.belongs(b); err != nil {
		return "", err
	}
	err = p.start(ctx, f, r, b)
	if err != nil && strings.Contains(err.Error(), "address already in use") {
		err = p.start(ctx, f, r, b) // somebody took a port meanwhile: with others
	}
	if err != nil {
		return "", err
	}
	return p.name(m.ID), nil
}

// Remove ends a machine's agents and tasks and removes its folder.
func (p *processTarget) Remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error {
	f, err := p.folder(m.ID)
	if err != nil {
		return err
	}
	if _, err = os.Lstat(string(f)); errors.Is(err, fs.ErrNotExist) && m.Instance != "" && m.Instance != p.name(m.ID) {
		return p.elsewhere(m)
	}
	unlock, err := p.lock(ctx, m.ID)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := f.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r != nil { // without a record nothing was started
		if err = r.belongs(b); err == nil {
			err = p.end(ctx, f, r)
		}
		if err != nil {
			return err
		}
	}
	if err = unmountBelow(string(f)); err != nil {
		return err
	}
	if err = os.RemoveAll(string(f)); err != nil {
		return fmt.Errorf("remove the machine's folder: %w", err)
	}
	return nil
}

// name is the instance that a machine is: where its folder is.
func (p *processTarget) name(id string) string {
	return p.host + ":" + filepath.Join(p.config.Dir, id)
}

// elsewhere is the error for a machine that was made where this server does not
// look: on another machine, or below another folder.
func (p *processTarget) elsewhere(m nodescale.Machine) error {
	return fmt.Errorf("it is %s and this server has its machines at %s: all servers of a cluster with the target process "+
		"have to be on one machine and to share the folder", m.Instance, p.name(""))
}

// List says which machines of a group have a folder here, and which of them run.
func (p *processTarget) List(_ context.Context, b nodescale.Blueprint) (nodescale.Listing, error) {
	all, broken, err := p.records()
	if err != nil {
		return nodescale.Listing{}, err
	}
	var listing nodescale.Listing
	for _, r := range all {
		if r.ClusterID == b.ClusterID && r.Group == b.Group {
			listing.Instances = append(listing.Instances, p.instance(r))
		}
	}
	for name, why := range broken {
		if prefix, rest, _ := cutLast(name, "-"); prefix == b.Group && rest != "" {
			listing.Instances = append(listing.Instances, nodescale.Instance{ID: name, State: stateEnded, Message: why.Error()})
		}
	}
	slices.SortFunc(listing.Instances, func(a, b nodescale.Instance) int { return strings.Compare(a.ID, b.ID) })
	listing.Count = len(listing.Instances)
	return listing, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func (p *processTarget) instance(r *record) nodescale.Instance {
	f := folder(filepath.Join(p.config.Dir, r.ID))
	i := nodescale.Instance{ID: r.ID, Name: p.name(r.ID), State: stateRunning, Since: r.Made}
	starting := time.Since(r.Starting)
	for _, a := range []struct {
		name string
		process
	}{{"consul", r.Consul}, {"nomad", r.Nomad}} {
		switch {
		case a.alive():
		case starting >= 0 && starting < startingFor:
			i.State = stateStarting
		case i.State == stateRunning:
			i.State, i.Message = stateEnded, "its "+a.name+" agent does not run"+f.complaint(a.name)
		}
	}
	return i
}

// adopt finds agents that were started by a call that did not live to say so.
func (p *processTarget) adopt(f folder, r *record) (found bool) {
	if r.Nomad.alive() && r.Consul.alive() {
		return false
	}
	before := *r
	for _, one := range marked(r.Token, nil) {
		switch configOf(one.Pid) {
		case f.path("nomad.json"):
			r.Nomad = one
		case f.path("consul.json"):
			r.Consul = one
		}
	}
	return *r != before
}

// settle gives a machine its ports, those that it had if it can. They are taken
// when another machine's record has them, also one whose agents do not run: its
// tasks may.
func (p *processTarget) settle(ctx context.Context, f folder, r *record, ip string) error {
	unlock, err := p.lock(ctx, ".ports")
	if err != nil {
		return err
	}
	defer unlock()
	if r.Ports == 0 || !r.Nomad.alive() && !r.Consul.alive() && !r.Ports.free(ctx, ip) {
		all, _, rerr := p.records()
		if rerr != nil {
			return rerr
		}
		var taken []ports
		for _, other := range all {
			taken = append(taken, other.Ports)
		}
		if r.Ports, err = freePorts(ctx, ip, taken); err != nil {
			return err
		}
	}
	r.Starting = time.Now()
	return f.save(r)
}

// unmountBelow unmounts what is mounted below a folder, the deepest first: what
// Nomad mounts for a task stays when Nomad is killed.
func unmountBelow(dir string) error {
	points, err := proctable.MountsBelow(dir)
	errs := []error{err}
	for _, point := range points {
		if err = proctable.Unmount(point); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}
