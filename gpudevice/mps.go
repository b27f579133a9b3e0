package gpudevice

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/gpushare"
)

// mpsProgram starts an MPS daemon, and speaks to one.
const mpsProgram = "nvidia-cuda-mps-control"

// mpsPatience bounds each call of it.
const mpsPatience = 10 * time.Second

// MPS keeps the MPS daemons. They outlive the plugin, as the tasks do that are
// attached to them, and are found again by the folder of their pipes.
type MPS struct {
	program string
	log     hclog.Logger
}

// NewMPS returns the keeper of the daemons. It starts none.
func NewMPS(log hclog.Logger) *MPS { return &MPS{program: mpsProgram, log: log} }

// Keep sees to it that daemons run, and says what is wrong with those that do
// not, by the UUIDs of their GPUs.
func (m *MPS) Keep(ctx context.Context, daemons []gpushare.Daemon) map[string]string {
	var (
		mu    sync.Mutex
		each  sync.WaitGroup
		wrong = map[string]string{}
	)
	for _, d := range daemons {
		each.Go(func() {
			if err := m.keep(ctx, d); err != nil {
				mu.Lock()
				defer mu.Unlock()
				wrong[d.UUID] = err.Error()
			}
		})
	}
	each.Wait()
	return wrong
}

func (m *MPS) keep(ctx context.Context, d gpushare.Daemon) error {
	if m.answers(ctx, d) {
		return nil
	}
	for _, folder := range []string{d.Pipe, d.Log} {
		if err := os.MkdirAll(folder, folderMode); err != nil {
			return fmt.Errorf("start the MPS daemon: %w", err)
		}
	}
	if output, err := m.run(ctx, d, "", "-d"); err != nil {
		return fmt.Errorf("start the MPS daemon (%s -d): %w%s", m.program, err, firstLine(output))
	}
	if !m.answers(ctx, d) {
		return fmt.Errorf("the MPS daemon was started and does not answer: see %s", d.Log)
	}
	m.log.Info("started an MPS daemon", "gpu", d.UUID, "pipes", d.Pipe, "logs", d.Log)
	return nil
}

// answers asks a daemon for something that changes nothing.
func (m *MPS) answers(ctx context.Context, d gpushare.Daemon) bool {
	_, err := m.run(ctx, d, "get_server_list\n")
	return err == nil
}

// run calls the program for one daemon. Its output goes to a file: a daemon has
// it for as long as it lives, and a pipe would be waited for.
func (m *MPS) run(ctx context.Context, d gpushare.Daemon, input string, args ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(ctx, mpsPatience)
	defer cancel()
	file, err := os.CreateTemp("", "serve-nomad-gpu-mps-")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name()) //nolint:errcheck // a small file that stays does no harm
	defer file.Close()
	command := exec.CommandContext(ctx, m.program, args...)
	command.Env = append(os.Environ(),
		"CUDA_VISIBLE_DEVICES="+d.UUID, "CUDA_MPS_PIPE_DIRECTORY="+d.Pipe, "CUDA_MPS_LOG_DIRECTORY="+d.Log)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), file, file
	command.SysProcAttr = onItsOwn()
	command.WaitDelay = time.Second
	runErr := command.Run()
	text, err := os.ReadFile(file.Name())
	if err != nil {
		return "", err
	}
	return string(bytes.TrimSpace(text)), runErr
}

// firstLine is what to add to an error of what a program said.
func firstLine(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	if line == "" {
		return ""
	}
	return ": " + line
}
