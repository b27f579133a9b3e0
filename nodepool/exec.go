package nodepool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
)

const (
	execOutput      = 1 << 20 // bytes that a command may write to stdout
	execComplaint   = 4 << 10 // bytes of stderr that are kept, the last ones
	execGrace       = 2 * time.Second
	execUnsupported = 64   // exit code: the command cannot do this
	instanceLength  = 1024 // bytes of the name of an instance
)

// execTarget runs a command of the user: with one more argument, launch, remove
// or list, a JSON document on stdin, and a JSON document on stdout.
type execTarget struct {
	grace time.Duration // between SIGTERM and SIGKILL
	log   hclog.Logger
}

// execInput is what the command reads.
type execInput struct {
	Blueprint nodescale.Blueprint `json:"blueprint"`
	Machine   *nodescale.Machine  `json:"machine,omitempty"` // absent of list
}

// Launch runs the command with launch. It answers {"instance": "..."}, or nothing
// where the machine has no name but its id.
func (t *execTarget) Launch(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) (string, error) {
	out, err := t.run(ctx, "launch", b, &m)
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return "", err
	}
	var answer struct {
		Instance string `json:"instance"`
	}
	if err = errors.Join(decode(out, &answer), checkName(answer.Instance)); err != nil {
		return "", err
	}
	return answer.Instance, nil
}

// Remove runs the command with remove. What it writes is not looked at.
func (t *execTarget) Remove(ctx context.Context, b nodescale.Blueprint, m nodescale.Machine) error {
	_, err := t.run(ctx, "remove", b, &m)
	return err
}

// List runs the command with list. It answers {"instances": [...]} or, where it
// only counts, {"count": n}. No answer is not an empty one.
func (t *execTarget) List(ctx context.Context, b nodescale.Blueprint) (nodescale.Listing, error) {
	out, err := t.run(ctx, "list", b, nil)
	if err != nil {
		return nodescale.Listing{}, err
	}
	var answer struct {
		Instances *[]nodescale.Instance `json:"instances"`
		Count     *int                  `json:"count"`
	}
	if err = decode(out, &answer); err != nil {
		return nodescale.Listing{}, err
	}
	switch {
	case answer.Instances != nil && answer.Count != nil && *answer.Count != len(*answer.Instances):
		return nodescale.Listing{}, fmt.Errorf("it says that there are %d and names %d", *answer.Count, len(*answer.Instances))
	case answer.Instances != nil:
		return listing(*answer.Instances)
	case answer.Count == nil:
		return nodescale.Listing{}, fmt.Errorf("its answer has neither instances nor count: %s", head(out))
	case *answer.Count < 0:
		return nodescale.Listing{}, fmt.Errorf("it says that there are %d", *answer.Count)
	}
	return nodescale.Listing{Count: *answer.Count, Counted: true}, nil
}

// listing holds what a command names to what it may.
func listing(all []nodescale.Instance) (nodescale.Listing, error) {
	seen := map[string]bool{}
	for i := range all {
		one := &all[i]
		if one.State == "" {
			one.State = stateRunning
		}
		if !slices.Contains([]string{stateRunning, stateStarting, stateEnded}, one.State) {
			return nodescale.Listing{}, fmt.Errorf("instance %d has the state %q: want running, starting or ended", i, one.State)
		}
		if one.ID == "" && one.Name == "" {
			return nodescale.Listing{}, fmt.Errorf("instance %d has neither id nor instance", i)
		}
		if one.ID != "" && seen[one.ID] {
			return nodescale.Listing{}, fmt.Errorf("%q is named twice", one.ID)
		}
		seen[one.ID] = true
		if err := errors.Join(checkName(one.ID), checkName(one.Name)); err != nil {
			return nodescale.Listing{}, err
		}
	}
	return nodescale.Listing{Instances: all, Count: len(all)}, nil
}

// checkName keeps garbage out of the replicated State.
func checkName(name string) error {
	if len(name) > instanceLength || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("the name %.80q has more than %d bytes, or some that cannot be printed", name, instanceLength)
	}
	return nil
}

// decode reads one JSON document and nothing after it.
func decode(out []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(out))
	err := dec.Decode(into)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after it")
		}
	}
	if err != nil {
		return fmt.Errorf("its answer is not the JSON that is wanted: %w: %s", err, head(out))
	}
	return nil
}

func head(out []byte) string {
	if len(out) == 0 {
		return "it is empty"
	}
	const most = 200
	if len(out) > most {
		return strconv.QuoteToASCII(string(out[:most])) + " ..."
	}
	return strconv.QuoteToASCII(string(out))
}

// run runs the command and returns what it wrote to stdout.
func (t *execTarget) run(ctx context.Context, what string, b nodescale.Blueprint, m *nodescale.Machine) ([]byte, error) {
	if len(b.Command) == 0 || b.Command[0] == "" {
		return nil, fmt.Errorf("worker group %s names no command", b.Group)
	}
	input, err := json.Marshal(execInput{Blueprint: b, Machine: m})
	if err != nil {
		return nil, fmt.Errorf("write its input: %w", err)
	}
	env, err := execEnv(b, m)
	if err != nil {
		return nil, err
	}
	stdout, stderr := &bounded{most: execOutput}, &tail{most: execComplaint}
	cmd := exec.Command(b.Command[0], append(slices.Clone(b.Command[1:]), what)...) //nolint:noctx // runGroup ends it
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(input), stdout, stderr, env
	started := time.Now()
	err = t.runGroup(ctx, cmd, stdout)
	t.log.Debug("ran a command", "command", b.Command[0], "what", what, "took", time.Since(started), "error", err)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == execUnsupported {
		err = ErrNotSupported
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w%s", b.Command[0], what, err, stderr)
	}
	return stdout.text(), nil
}

// runGroup runs a command in a process group of its own and ends all of the
// group when ctx ends, or when the command floods its stdout.
func (t *execTarget) runGroup(ctx context.Context, cmd *exec.Cmd, stdout *bounded) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stdout.full = func() { cancel(fmt.Errorf("it wrote more than %d bytes", stdout.most)) }
	cmd.SysProcAttr = ownGroup()
	cmd.WaitDelay = t.grace + time.Second // for those that left its group and hold its output
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	var err error
	select {
	case err = <-over:
	case <-ctx.Done():
		terminateGroup(cmd.Process) //nolint:errcheck // the only error is that none is left
		kill := time.AfterFunc(t.grace, func() { killGroup(cmd.Process) })
		err = <-over
		kill.Stop()
		killGroup(cmd.Process) // what it started and left
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it was ended: %w", context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it left behind what goes on writing: that it has ended counts
	}
	return err
}

// execEnv is the server's own environment, because a command needs the
// credentials of its cloud, and what a shell script would else have to take out
// of the JSON.
func execEnv(b nodescale.Blueprint, m *nodescale.Machine) ([]string, error) {
	env := append(os.Environ(), "SERVE_CLUSTER_ID="+b.ClusterID, "SERVE_WORKER_GROUP="+b.Group, "SERVE_NODE_POOL="+b.NodePool)
	if m != nil {
		env = append(env, "SERVE_NODE="+m.ID, "SERVE_INSTANCE="+m.Instance, "SERVE_WANTED="+strconv.Itoa(m.Wanted))
	}
	from := map[string]string{}
	for key, value := range b.Config {
		name := "SERVE_CONFIG_" + strings.Map(func(r rune) rune {
			if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
				return unicode.ToUpper(r)
			}
			return '_'
		}, key)
		if other, taken := from[name]; taken {
			return nil, fmt.Errorf("target.config: %q and %q are both %s: rename one", min(key, other), max(key, other), name)
		}
		from[name] = key
		env = append(env, name+"="+value)
	}
	return env, nil
}
