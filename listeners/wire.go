package listeners

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// The two processes of a handover talk over a Unix socket, one message at a time:
//
//	new: hello         old: ports, and their sockets
//	new: ready         old: stopped, after which it accepts nothing; with its state
//	new: serving       old: goodbye, from which on the new one accepts
//
// Each message is a length, four bytes in network order, and so much JSON. A
// side that gives up says why, or just closes the connection.
const (
	kindHello   = "hello"
	kindPorts   = "ports"
	kindReady   = "ready"
	kindStopped = "stopped"
	kindServing = "serving"
	kindGoodbye = "goodbye"
	kindFailed  = "failed"
)

// protocol is the version of that; both sides must speak the same.
const protocol = 1

// maxMessage bounds a message, which may carry state.
const maxMessage = 64 << 20

type message struct {
	Kind     string `json:"kind"`
	Protocol int    `json:"protocol,omitempty"`
	Ports    []port `json:"ports,omitempty"` // in the order of the sockets
	State    []byte `json:"state,omitempty"`
	Reason   string `json:"reason,omitempty"` // of failed
}

// port is a listener as it was asked for.
type port struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

func send(w io.Writer, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fmt.Errorf("a message of %d bytes, over %d", len(body), maxMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return gone(err)
}

// receive reads one message, and not a byte more: sockets may follow.
func receive(r io.Reader, kind string) (message, error) {
	var m message
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, gone(err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > maxMessage {
		return m, fmt.Errorf("a message of %d bytes, over %d", length, maxMessage)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return m, gone(err)
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("a message that is not understood: %w", err)
	}
	switch {
	case m.Kind == kindFailed:
		return m, &failedError{m.Reason}
	case m.Kind != kind:
		return m, fmt.Errorf("the message %q came in the place of %q", m.Kind, kind)
	}
	return m, nil
}

// failedError is the other side's reason to give up.
type failedError struct{ reason string }

func (e *failedError) Error() string { return "the other process gave up: " + e.reason }

// errPeerGone says that the other process has ended, or has closed the
// connection without a word.
var errPeerGone = errors.New("the other process is gone")

// gone tells a connection that the other side has ended from one that fails
// otherwise: a process that hangs is still there.
func gone(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("%w: %w", errPeerGone, err)
	}
	return err
}
