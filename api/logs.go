package api

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

// ReplicaHeader names the replica whose log an answer is.
const ReplicaHeader = "X-Serve-Nomad-Replica"

// Bounds on ?tail=, in lines and in the bytes that are read to find them.
const (
	maxTail      = 10_000
	tailLine     = 512 // bytes of a line that are reckoned with
	minTailBytes = 64 << 10
)

// readLogs is GET .../logs: the log of one replica as plain text.
func readLogs(c *call) error {
	tail, err := c.number("tail")
	if err != nil {
		return err
	}
	if tail > maxTail {
		return fail(CodeInvalid, "tail must be at most %d", maxTail)
	}
	req, err := c.logRequest()
	if err != nil {
		return err
	}
	if tail > 0 {
		req.TailBytes = max(int64(tail)*tailLine, minTailBytes)
	}
	if req.Follow {
		done, err := c.startWatch()
		if err != nil {
			return err
		}
		defer done()
	}
	log, err := c.server.cfg.Logs.Logs(c.r.Context(), req)
	if err != nil {
		return fmt.Errorf("%s of replica %s: %w", req.Stream, shortID(req.Replica), err)
	}
	defer func() { _ = log.Close() }() // it was only read
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set(ReplicaHeader, req.Replica)
	c.w.WriteHeader(http.StatusOK)
	out := flusher{c.w, http.NewResponseController(c.w)}
	out.flush()
	end := tailOf{lines: int(tail), bytes: int(req.TailBytes)}
	switch {
	case tail == 0:
		_, err = io.Copy(out, log)
	case req.Follow:
		err = copyTail(c.r.Context(), out, log, end)
	default:
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(log, 2*req.TailBytes)); err == nil {
			_, err = out.Write(lastLines(data, end))
		}
	}
	return err
}

// flusher sends each piece on as it comes.
type flusher struct {
	w       io.Writer
	control *http.ResponseController
}

func (f flusher) Write(data []byte) (int, error) {
	n, err := f.w.Write(data)
	f.flush()
	return n, err
}

func (f flusher) flush() {
	// Not every ResponseWriter can flush; what it has it then sends at the end.
	_ = f.control.Flush()
}

func (c *call) logRequest() (LogRequest, error) {
	req := LogRequest{Task: c.params["deployment"], Stream: c.query.Get("stream"), Follow: c.flag("follow")}
	switch req.Stream {
	case "stdout", "stderr":
	case "":
		req.Stream = "stdout"
	default:
		return req, fail(CodeInvalid, "stream must be stdout or stderr, not %q", req.Stream)
	}
	var err error
	req.Replica, err = findReplica(c.look(), c.params["app"], c.params["deployment"], c.query.Get("replica"))
	return req, err
}

// findReplica returns the id of the replica that prefix names, or of the
// newest one whose task has started.
func findReplica(view *View, application, deployment, prefix string) (string, error) {
	app := view.State.Applications[application]
	world := view.World
	if app == nil {
		return "", fail(CodeNotFound, "no application %q", application)
	}
	if !world.NomadKnown && len(world.Jobs) == 0 {
		return "", fail(CodeUnavailable, "the replicas are not known: %s", world.NomadError)
	}
	if app.Wanted.Spec.Deployment(deployment) == nil && app.Serving.Spec.Deployment(deployment) == nil {
		return "", fail(CodeNotFound, "application %q has no deployment %q", application, deployment)
	}
	var found []reconcile.Replica
	pending := 0
	for _, r := range world.Replicas {
		job := world.Jobs[r.JobID]
		switch {
		case job.ClusterID != view.State.ClusterID || job.Application != application || job.Deployment != deployment:
		case prefix == "" && r.Status == reconcile.ReplicaPending && r.Restarts == 0:
			pending++
		case strings.HasPrefix(r.ID, prefix):
			found = append(found, r)
		}
	}
	switch {
	case len(found) == 0 && prefix != "":
		return "", fail(CodeNotFound, "no replica of %s/%s has an id that begins with %q", application, deployment, prefix)
	case len(found) == 0:
		return "", fail(CodeNotFound, "no replica of %s/%s has started yet (%d are on their way), so there is no log", application, deployment, pending)
	case len(found) > 1 && prefix != "":
		return "", fail(CodeInvalid, "%d replicas of %s/%s have an id that begins with %q: give more of it", len(found), application, deployment, prefix)
	}
	slices.SortStableFunc(found, func(a, b reconcile.Replica) int {
		return cmp.Or(compareBool(ended(a), ended(b)), b.CreatedAt.Compare(a.CreatedAt))
	})
	return found[0].ID, nil
}

// ended says whether a replica is gone because it was asked to go, or with its
// node: its log is of less interest than any other.
func ended(r reconcile.Replica) bool {
	return r.Status == reconcile.ReplicaStopped || r.Status == reconcile.ReplicaLost
}

// compareBool puts false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// shortID shortens an allocation id as Nomad's own tools do.
func shortID(id string) string { return id[:min(8, len(id))] }
