package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/serve-nomad/serve-nomad/api"
	nomaddev "github.com/serve-nomad/serve-nomad/test/nomad-dev"
)

// interrupts returns contexts that end at the first and at the second signal
// that asks this process to end. A terminal that goes away is such a signal.
func interrupts(parent context.Context) (first, second context.Context, release func()) {
	first, cancelFirst := context.WithCancel(parent)
	second, cancelSecond := context.WithCancel(context.WithoutCancel(parent))
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for _, cancel := range []func(){cancelFirst, cancelSecond} {
			select {
			case <-signals:
				cancel()
			case <-second.Done():
				return
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		cancelFirst()
		cancelSecond()
	}
}

// devRun is one run, in the foreground or in the background.
type devRun struct {
	*command
	folder   devFolder
	plan     devPlan
	progress io.Writer

	cluster *nomaddev.Cluster
	info    devInfo
	unwatch func() // ends the supervision of the cluster; nil before it began
}

func (r *devRun) say(format string, args ...any) {
	fmt.Fprintf(r.progress, format+"\n", args...)
}

// errDeploy is a deploy that did not succeed, and that was told already.
var errDeploy = errors.New("the deploy did not succeed")

// foreground runs until a signal. First ends at the first signal, second at the
// second one.
func (r *devRun) foreground(first, second context.Context) error {
	defer r.removeData()
	ended, err := r.up(first)
	if errors.Is(err, errDeploy) && first.Err() == nil {
		r.say("%s", failedText(r.info))
		err = nil
	} else if err == nil && !r.json {
		r.say("%s\nCtrl-C stops it.", runningText(r.info))
	}
	if err == nil {
		if r.json {
			r.printJSON(r.info)
		}
		failed := r.info.Phase == phaseFailed
		err = <-ended
		r.down(first, second)
		if err == nil && failed {
			err = exitWith(exitError) // the deploy's failure was told
		}
		return err
	}
	r.down(first, second)
	if first.Err() != nil {
		return exitWith(exitStopped)
	}
	return err
}

// up starts everything and deploys. The channel gets the reason why the run ends
// by itself, or nil when ctx ends.
func (r *devRun) up(ctx context.Context) (<-chan error, error) {
	o := r.plan.Options
	r.info = devInfo{Phase: phaseStarting, Try: r.plan.Try}
	r.info.HTTP = "http://" + devAddress(o.Bind, o.Ports.HTTP)
	r.info.API = "http://" + devAddress(o.Bind, o.Ports.API)
	if err := r.folder.save(&r.info); err != nil {
		return nil, err
	}
	var err error
	r.cluster, err = nomaddev.StartCluster(ctx, nomaddev.ClusterOptions{
		Dir: string(r.folder), Dev: true, Binary: r.plan.Binary, Bind: o.Bind,
		Agents: nomaddev.Agents{
			Nomad:  nomaddev.Agent{Path: r.plan.Nomad},
			Consul: nomaddev.Agent{Path: r.plan.Consul},
		},
		Consul:  nomaddev.ConsulPorts{HTTP: o.Ports.Consul},
		Nomad:   nomaddev.NomadPorts{HTTP: o.Ports.Nomad},
		Servers: []nomaddev.ServerPorts{{API: o.Ports.API}},
		Proxies: []nomaddev.ProxyPorts{{HTTP: o.Ports.HTTP, Handle: o.Ports.Handle}},
		Note:    func(text string) { r.say("%s", text) },
	})
	if err != nil {
		return nil, err
	}
	r.info.Nomad, r.info.Consul = r.cluster.Nomad.URL(), r.cluster.Consul.URL()

	watched, stop := context.WithCancelCause(ctx)
	ended, over := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(over)
		serr := r.cluster.Supervise(watched)
		stop(serr)
		ended <- serr
	}()
	r.unwatch = func() {
		stop(nil)
		<-over
	}
	err = r.deploy(watched)
	if cause := context.Cause(watched); err != nil && watched.Err() != nil && ctx.Err() == nil {
		return nil, cause // an agent ended meanwhile
	}
	r.info.Phase = phaseRunning
	if err != nil {
		r.info.Phase, r.info.Error = phaseFailed, err.Error()
	}
	return ended, errors.Join(err, r.folder.save(&r.info))
}

// deploy sends the worker groups and the applications, and follows these as the
// deploy command does.
func (r *devRun) deploy(ctx context.Context) error {
	client, err := api.NewClient(api.ClientConfig{Address: r.info.API})
	if err != nil {
		return err
	}
	deploying := r.following(ctx)
	started := time.Now()
	answer, err := client.Deploy(ctx, r.request())
	if err != nil {
		deploying.exit(err)
		return fmt.Errorf("%w: %w", errDeploy, err)
	}
	for _, g := range answer.WorkerGroups {
		r.info.WorkerGroups = append(r.info.WorkerGroups, g.Name)
	}
	if r.plan.File == nil {
		return nil
	}
	r.say("%s", strings.TrimSuffix(acceptedLines(answer), "\n"))
	for _, app := range r.plan.File.Applications {
		r.info.Applications = append(r.info.Applications, devApplication{Name: app.Name, URL: r.info.HTTP + app.RoutePrefix})
	}
	r.info.Try = tryCommand(r.info)
	if err = deploying.wait(ctx, client, answer, started, r.plan.Options.Timeout); err != nil {
		return errDeploy
	}
	return nil
}

// request deploys the file, and the worker groups that every run has.
func (r *devRun) request() api.DeployRequest {
	req := api.DeployRequest{By: r.plan.By, Message: "dev"}
	if file := r.plan.File; file != nil {
		req.Applications, req.WorkerGroups = file.Applications, slices.Clone(file.WorkerGroups)
	}
	req.WorkerGroups = append(req.WorkerGroups, devGroups(r.plan.File)...)
	return req
}

// following is a deploy that tells how it goes where this run does.
func (r *devRun) following(ctx context.Context) *follow {
	b := *r.base
	b.ctx, b.stdout, b.stderr, b.terminal = ctx, r.progress, r.progress, r.terminal && !r.json
	b.getenv = func(name string) string {
		if name == "SERVE_NOMAD_PROXY_ADDR" {
			return r.info.HTTP
		}
		return r.getenv(name)
	}
	return &follow{what: "deploy", command: newCommand(&b, "deploy", helpText{})}
}

// down stops everything, in order, and at once when second ends.
func (r *devRun) down(first, second context.Context) {
	r.info.Phase = phaseStopping
	r.folder.save(&r.info) //nolint:errcheck // the stop matters more
	if first.Err() != nil {
		r.say("stopping; Ctrl-C again ends it at once")
	}
	if r.unwatch != nil {
		r.unwatch() // or what is stopped would be started again
	}
	if r.cluster == nil {
		return
	}
	if err := r.cluster.Stop(second); err != nil && second.Err() == nil {
		r.errorf("stop: %s", err)
	}
}

// removeData removes what nobody reads after the run; the logs stay.
func (r *devRun) removeData() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := r.folder.clean(ctx, false); err != nil {
		r.errorf("%s", err)
	}
	os.Remove(r.folder.path("dev.json")) //nolint:errcheck // it is read only while the lock is held
}

// devAddress is host:port as this machine reaches what listens on bind.
func devAddress(bind string, port int) string {
	if ip := net.ParseIP(bind); ip != nil && ip.IsUnspecified() {
		bind = "127.0.0.1"
	}
	return net.JoinHostPort(bind, strconv.Itoa(port))
}

// tryCommand is the command line of the spec's "# try:" comment with the real
// address in it, or one that asks the first application's route.
func tryCommand(info devInfo) string {
	if info.Try == "" {
		if len(info.Applications) == 0 {
			return ""
		}
		return "curl " + info.Applications[0].URL
	}
	address := strings.TrimPrefix(info.HTTP, "http://")
	return strings.NewReplacer("127.0.0.1:8000", address, "localhost:8000", address).Replace(info.Try)
}
