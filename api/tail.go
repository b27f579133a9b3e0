package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

// tailOf is how much of the end of a log is wanted.
type tailOf struct {
	lines int
	bytes int // that the log was opened at before its end
}

// quietTime is how long nothing comes before what has come is taken for all
// that was there when a log was opened.
const quietTime = 300 * time.Millisecond

// copyTail writes the last lines of what is there, and then what follows.
func copyTail(ctx context.Context, w io.Writer, log io.Reader, tail tailOf) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pieces := make(chan piece)
	go readPieces(ctx, log, pieces)

	var head []byte
	quiet := time.NewTimer(quietTime)
	defer quiet.Stop()
	gathering := true
	settle := func() error {
		if !gathering {
			return nil
		}
		gathering = false
		_, err := w.Write(lastLines(head, tail))
		head = nil
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-quiet.C:
			if err := settle(); err != nil {
				return err
			}
		case p := <-pieces:
			var err error
			switch {
			case gathering && len(head) < 2*tail.bytes:
				head = append(head, p.data...)
				quiet.Reset(quietTime)
			default:
				if err = settle(); err == nil {
					_, err = w.Write(p.data)
				}
			}
			switch {
			case err != nil:
				return err
			case errors.Is(p.err, io.EOF):
				return settle()
			case p.err != nil:
				return errors.Join(settle(), p.err)
			}
		}
	}
}

// piece is what one Read gave.
type piece struct {
	data []byte
	err  error
}

// readPieces reads until an error or the end of ctx.
func readPieces(ctx context.Context, from io.Reader, to chan<- piece) {
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		select {
		case to <- piece{buffer[:n], err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// lastLines cuts data, which may begin in the middle of a line.
func lastLines(data []byte, tail tailOf) []byte {
	if first := bytes.IndexByte(data, '\n'); len(data) >= tail.bytes && first >= 0 && first < len(data)-1 {
		data = data[first+1:]
	}
	end := len(bytes.TrimSuffix(data, []byte("\n")))
	for from, left := end, tail.lines; from > 0; left-- {
		at := bytes.LastIndexByte(data[:from], '\n')
		if at < 0 {
			return data
		}
		if left == 1 {
			return data[at+1:]
		}
		from = at
	}
	return data
}
