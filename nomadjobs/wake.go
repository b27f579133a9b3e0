package nomadjobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/serve-nomad/serve-nomad/jobspec"
	"github.com/serve-nomad/serve-nomad/placement"
)

// Nomad sends a heartbeat every 10 s; a stream that is silent for longer than
// streamSilence is dead, whatever TCP thinks.
const (
	streamSilence   = 35 * time.Second
	minStreamPause  = 250 * time.Millisecond
	maxStreamPause  = 10 * time.Second
	healthyStreamed = time.Minute // a stream that lasted this long resets the pause
)

// Wake returns a channel that ticks when something of ours may have changed in
// Nomad, and after each reconnect, because what happened meanwhile is not
// known. Ticks that nobody has taken yet are one. The channel is closed when
// ctx ends.
func (c *Client) Wake(ctx context.Context) <-chan struct{} {
	wake := make(chan struct{}, 1)
	go func() {
		defer close(wake)
		c.follow(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	}()
	return wake
}

// follow keeps an event stream open until ctx ends.
func (c *Client) follow(ctx context.Context, wake func()) {
	pause := minStreamPause
	lastFault := ""
	for ctx.Err() == nil {
		began := time.Now()
		err := c.stream(ctx, wake)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > healthyStreamed {
			pause, lastFault = minStreamPause, ""
		}
		// Once per kind of fault: a Nomad that is away for an hour is one line.
		if err.Error() != lastFault {
			c.log.Warn("nomad's event stream ended; connecting again", "error", err)
			lastFault = err.Error()
		}
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return
		}
		pause = min(2*pause, maxStreamPause)
	}
}

// stream reads one event stream to its end, which is always an error.
func (c *Client) stream(ctx context.Context, wake func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(streamSilence, func() {
		cancel(fmt.Errorf("silent for %s", streamSilence))
	})
	defer watchdog.Stop()

	body, err := c.openStream(ctx, api.TopicJob, api.TopicAllocation, api.TopicEvaluation, api.TopicNode, api.TopicNodePool)
	if errors.Is(err, ErrForbidden) {
		// Only a management token is told of node pools. Without it a pool that
		// is deleted shows at the next look.
		body, err = c.openStream(ctx, api.TopicJob, api.TopicAllocation, api.TopicEvaluation, api.TopicNode)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	wake()
	decoder := json.NewDecoder(body)
	for {
		var batch eventBatch
		if err := decoder.Decode(&batch); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("closed by Nomad")
			}
			return c.fault("read nomad's event stream", whyEnded(ctx, err))
		}
		watchdog.Reset(streamSilence)
		if batch.concernsUs(c.pools.Load()) {
			wake()
		}
	}
}

func (c *Client) openStream(ctx context.Context, topics ...api.Topic) (io.ReadCloser, error) {
	params := url.Values{}
	for _, topic := range topics {
		params.Add("topic", string(topic))
	}
	q := (&api.QueryOptions{}).WithContext(ctx)
	body, err := c.nomad.Raw().Response("/v1/event/stream?"+params.Encode(), q)
	if err != nil {
		return nil, needing(readNodes+", and read-job in its namespace", c.fault("open nomad's event stream", whyEnded(ctx, err)))
	}
	return body, nil
}

// eventBatch is one line of the event stream, without the payloads but for what
// says whose a node is. A heartbeat has no events.
type eventBatch struct {
	Events []struct {
		Topic      api.Topic
		Key        string
		FilterKeys []string
		Payload    struct{ Node *eventNode }
	}
}

type eventNode struct {
	NodePool string
	Meta     map[string]string
}

// concernsUs says whether an event may be about something of ours. Events of
// allocations and evaluations name the job among their filter keys.
func (b eventBatch) concernsUs(known *knownPools) bool {
	for _, event := range b.Events {
		if event.Topic == api.TopicNode {
			if known.concern(event.Payload.Node) {
				return true
			}
			continue
		}
		if event.Topic == api.TopicNodePool || strings.HasPrefix(event.Key, jobspec.JobPrefix) {
			return true
		}
		for _, key := range event.FilterKeys {
			if strings.HasPrefix(key, jobspec.JobPrefix) {
				return true
			}
		}
	}
	return false
}

// knownPools is what the last look knew of node pools, so that the nodes of
// others, which may be thousands, wake nobody.
type knownPools struct {
	ours  map[string]bool // our jobs name them
	ready map[string]int  // they have a ready node
}

// concern says whether what happened to a node may matter: it was ordered by
// us, our jobs may run on it, or it may be the first of its pool.
func (k *knownPools) concern(n *eventNode) bool {
	if k == nil || n == nil || n.Meta[placement.NodeMeta] != "" {
		return true
	}
	_, ready := k.ready[n.NodePool]
	return !ready || k.ours[n.NodePool] || k.ours[api.NodePoolAll]
}

// remember keeps what the stream of events is judged by.
func (c *Client) remember(jobs map[string]seenJob, ready map[string]int) {
	known := &knownPools{ours: map[string]bool{}, ready: ready}
	for _, job := range jobs {
		known.ours[job.pool] = true
	}
	c.pools.Store(known)
}

// whyEnded returns why ctx ended, or err when it did not.
func whyEnded(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// sleep waits for d and says whether ctx is still on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
