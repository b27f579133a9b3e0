package appspec

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// What a field is when it is absent. The counts and autoscaling are Ray
// Serve's; the shares of a node are small, so that an example runs anywhere.
const (
	defaultRoutePrefix     = "/"
	defaultReplicas        = 1
	defaultOngoing         = 5
	defaultQueued          = -1
	defaultCPU             = 0.1
	defaultMemoryMB        = 128
	defaultCheckPath       = "/healthz"
	defaultCheckPeriod     = Duration(2 * time.Second)
	defaultCheckTimeout    = Duration(time.Second)
	defaultShutdownTimeout = Duration(20 * time.Second)
)

func (p *parser) application(sc *scope, block *hcl.Block) {
	app := &Application{Name: block.Labels[0], RoutePrefix: defaultRoutePrefix, Deployments: []*Deployment{}}
	path, first := p.unique(applicationPath(app.Name), "application", block)
	if first {
		p.file.Applications = append(p.file.Applications, app)
	}
	d := p.decode(sc, path, block, fieldNames{
		attributes: []string{"route_prefix", "ingress", "request_timeout", "max_body_bytes"},
		blocks:     []string{"rollout"},
		labelled:   []string{"deployment"},
	})
	p.put(d.path, block.LabelRanges[0])
	d.text("route_prefix", &app.RoutePrefix)
	d.duration("request_timeout", &app.RequestTimeout)
	d.long("max_body_bytes", &app.MaxBodyBytes)
	if attr, ok := d.content.Attributes["ingress"]; ok {
		app.Ingress = d.reference("ingress", attr.Expr)
	}
	if rollout := d.block("rollout"); rollout != nil {
		app.Rollout = p.rollout(sc, d.path+".rollout", rollout)
	}
	for _, inner := range d.content.Blocks.OfType("deployment") {
		path, first := p.unique(d.path+".deployment."+clip(inner.Labels[0]), "deployment", inner)
		if deployment := p.deployment(sc, path, inner); first {
			app.Deployments = append(app.Deployments, deployment)
		}
	}
	if _, set := d.content.Attributes["ingress"]; !set && len(app.Deployments) == 1 {
		app.Ingress = app.Deployments[0].Name // there is no other
	}
}

// unique refuses a second block of the same name. It is read all the same, for
// its own faults, but under a path of its own and without becoming a part of
// the spec.
func (p *parser) unique(path, what string, block *hcl.Block) (own string, first bool) {
	if _, taken := p.ranges[path]; !taken {
		return path, true
	}
	p.add(errorAt(block.LabelRanges[0], "Invalid "+what, "%s", alreadyThere(what, block.Labels[0])))
	return fmt.Sprintf("%s again at %s", path, block.DefRange), false
}

func (p *parser) deployment(sc *scope, path string, block *hcl.Block) *Deployment {
	out := &Deployment{
		Name:                    block.Labels[0],
		NumReplicas:             defaultReplicas,
		MaxOngoingRequests:      defaultOngoing,
		MaxQueuedRequests:       defaultQueued,
		Resources:               Resources{CPU: defaultCPU, MemoryMB: defaultMemoryMB},
		HealthCheck:             HealthCheck{Period: defaultCheckPeriod, Timeout: defaultCheckTimeout},
		GracefulShutdownTimeout: defaultShutdownTimeout,
	}
	d := p.decode(sc, path, block, fieldNames{
		attributes: []string{
			"handles", "num_replicas", "max_ongoing_requests", "max_queued_requests", "priority_headers",
			"worker_group", "node_pool", "graceful_shutdown_timeout", "user_config", "protocol",
		},
		blocks: []string{"resources", "task", "health_check", "autoscaling", "reconfigure"},
	})
	p.put(d.path, block.LabelRanges[0])
	d.text("protocol", &out.Protocol)
	if out.Protocol == ProtocolHTTP {
		out.Protocol = "" // one way to write it down, so that naming the default changes nothing
	}
	if out.Protocol == "" {
		out.HealthCheck.Path = defaultCheckPath
	}
	d.whole("num_replicas", &out.NumReplicas)
	d.whole("max_ongoing_requests", &out.MaxOngoingRequests)
	d.whole("max_queued_requests", &out.MaxQueuedRequests)
	d.flag("priority_headers", &out.PriorityHeaders)
	d.text("worker_group", &out.WorkerGroup)
	d.text("node_pool", &out.NodePool)
	d.duration("graceful_shutdown_timeout", &out.GracefulShutdownTimeout)
	out.Handles = d.handles()
	out.UserConfig = d.userConfig()
	d.deploymentBlocks(out, block)
	return out
}

// deploymentBlocks reads the blocks inside a deployment block.
func (d *decoder) deploymentBlocks(out *Deployment, block *hcl.Block) {
	if inner := d.block("resources"); inner != nil {
		d.resources(d.scope, d.path+".resources", inner, &out.Resources)
	}
	if inner := d.block("health_check"); inner != nil {
		d.healthCheck(d.scope, d.path+".health_check", inner, &out.HealthCheck)
	}
	if inner := d.block("autoscaling"); inner != nil {
		out.Autoscaling = d.autoscaling(d.scope, d.path+".autoscaling", inner)
		d.countWith(out)
	}
	if inner := d.block("reconfigure"); inner != nil {
		out.Reconfigure = d.reconfigure(d.scope, d.path+".reconfigure", inner)
	}
	if inner := d.block("task"); inner != nil {
		out.Task = d.task(d.scope, d.path+".task", inner, replicaTask)
	} else if hasBlock(block.Body, "task") { // with a label, which has been refused
		d.spoil(d.path + ".task")
	}
}

func hasBlock(body hcl.Body, kind string) bool {
	syntax, ok := body.(*hclsyntax.Body)
	return ok && slices.ContainsFunc(syntax.Blocks, func(b *hclsyntax.Block) bool { return b.Type == kind })
}

// countWith sets the initial count of a deployment that is autoscaled.
func (d *decoder) countWith(out *Deployment) {
	if attr, both := d.content.Attributes["num_replicas"]; both {
		d.add(errorAt(attr.NameRange, "Both num_replicas and autoscaling", "Give one of them; initial_replicas in the autoscaling block sets how many there are at first."))
	}
	out.NumReplicas = out.Autoscaling.firstReplicas()
}

func (d *decoder) handles() []string {
	attr, there := d.content.Attributes["handles"]
	if !there {
		return nil
	}
	list, ok := unwrapped(attr.Expr).(*hclsyntax.TupleConsExpr)
	if !ok {
		d.wrong("handles", "A list of references is needed, such as [deployment.embedder].")
		return nil
	}
	var names []string
	for i, expr := range list.Exprs {
		at := fmt.Sprintf("handles[%d]", i)
		d.put(d.path+"."+at, expr.Range())
		names = append(names, d.reference(at, expr))
	}
	return names
}

func (d *decoder) userConfig() json.RawMessage {
	v, ok := d.value("user_config")
	if !ok {
		return nil
	}
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		d.wrong("user_config", "An object is needed, such as { threshold = 0.5 }; this is %s.", kindOf(v))
		return nil
	}
	raw, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		d.wrong("user_config", "It cannot be written as JSON: %s.", err)
		return nil
	}
	return raw
}

func (p *parser) resources(sc *scope, path string, block *hcl.Block, to *Resources) {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{"cpu", "memory", "gpu"}})
	d.decimal("cpu", &to.CPU)
	d.memory("memory", &to.MemoryMB)
	d.decimal("gpu", &to.GPU)
}

func (p *parser) healthCheck(sc *scope, path string, block *hcl.Block, to *HealthCheck) {
	d := p.decode(sc, path, block, fieldNames{attributes: []string{"path", "service", "period", "timeout"}})
	d.text("path", &to.Path)
	d.text("service", &to.Service)
	d.duration("period", &to.Period)
	d.duration("timeout", &to.Timeout)
}
