package main

import (
	"bytes"
	"context"
	"io"
	"testing"
)

// askedReader is standard input that nobody writes to. It tells when it is read.
type askedReader struct {
	asked chan struct{}
	never *io.PipeReader
}

func (r askedReader) Read(p []byte) (int, error) {
	close(r.asked)
	return r.never.Read(p)
}

func TestInterruptWhileStandardInputIsSilent(t *testing.T) {
	for _, name := range []string{"validate", "fmt", "plan", "deploy"} {
		t.Run(name, func(t *testing.T) {
			never, end := io.Pipe()
			defer end.Close()
			ctx, cancel := context.WithCancel(t.Context())
			stdin := askedReader{asked: make(chan struct{}), never: never}
			go func() {
				<-stdin.asked
				cancel()
			}()
			var out, errs bytes.Buffer
			b := &base{
				ctx: ctx, stdin: stdin, stdout: &out, stderr: &errs,
				getenv: func(string) string { return "" }, environ: func() []string { return nil },
			}
			if code := run(b, []string{name, "-"}); code != exitStopped {
				t.Errorf("exit code %d, want %d; %s%s", code, exitStopped, &out, &errs)
			}
		})
	}
}
