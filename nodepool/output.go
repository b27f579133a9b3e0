package nodepool

import (
	"strings"
	"sync"
)

// bounded keeps what is written up to a number of bytes, and tells once when
// there is more.
type bounded struct {
	most int
	full func()

	mu  sync.Mutex
	buf []byte
	cut bool
}

// Write keeps what there is room for. It never fails, so that the writer is
// ended for a reason that is told, not by a broken pipe.
func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.most - len(b.buf)
	b.buf = append(b.buf, p[:min(room, len(p))]...)
	if len(p) > room && !b.cut {
		b.cut = true
		b.full()
	}
	return len(p), nil
}

func (b *bounded) text() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf
}

// tail keeps the last bytes of what is written.
type tail struct {
	most int

	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	p = p[max(0, n-t.most):]
	t.buf = append(t.buf[max(0, len(t.buf)+len(p)-t.most):], p...)
	return n, nil
}

// String is the last lines for the end of an error: "; it says: ...". It is ""
// when nothing was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := lastLines(string(t.buf), 8)
	if text == "" {
		return ""
	}
	return "; it says: " + text
}

// lastLines are the last lines of a text that are not empty, in one line.
func lastLines(text string, most int) string {
	var lines []string
	for line := range strings.Lines(strings.ToValidUTF8(text, "?")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], " | ")
}
