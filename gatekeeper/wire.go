package gatekeeper

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// protocolVersion is what a hello begins with, whatever follows in that version.
// A peer of another version is refused: what it says may mean something else.
const protocolVersion = 4

// maxText bounds a string on the wire.
const maxText = 256

// kind is the first byte of a message. Its numbers follow as unsigned varints, and
// then its strings with their length ahead.
type kind byte

const (
	kindHello    kind = 1  // both ways: version, name, incarnation, address that it keeps the book of
	kindOpen     kind = 2  // number, replica, application, deployment, address, limit, held, flags: a line, see Line
	kindDeclared kind = 3  // every line has been opened that the proxy held when it lost its last connection
	kindClose    kind = 4  // number
	kindMute     kind = 5  // number, 1 or 0
	kindAsk      kind = 6  // number
	kindRelease  kind = 7  // number
	kindWant     kind = 8  // application, deployment, slots, milliseconds since the first waits
	kindPing     kind = 9  // both ways
	kindBye      kind = 10 // the proxy ends, and its requests have
	kindGranted  kind = 11 // answers ask: number, slots that others have
	kindRefused  kind = 12 // answers ask: number, slots that others have
	kindBusy     kind = 13 // number, slots that others have
	kindQueued   kind = 14 // application, deployment, requests that wait at other proxies
	kindLimit    kind = 16 // number, slots of the replica
	kindOwn      kind = 17 // number, address: a connection to the replica that is the proxy's own
	kindOffered  kind = 15 // what was wanted: number, slots that others have, how many kindWant had been heard by then
)

// Flags of kindOpen.
const (
	flagMultiplexed = 1 << iota // see Replica
	flagHad                     // the line has been in a book before
)

// fields says how many strings and numbers a message has, in the order of
// message's fields.
func (k kind) fields() (texts, numbers int, known bool) {
	switch k {
	case kindHello:
		return 2, 2, true
	case kindOpen:
		return 4, 4, true
	case kindWant:
		return 2, 2, true
	case kindOwn:
		return 1, 1, true
	case kindQueued:
		return 2, 1, true
	case kindMute, kindLimit, kindGranted, kindRefused, kindBusy:
		return 0, 2, true
	case kindOffered:
		return 0, 3, true
	case kindClose, kindAsk, kindRelease:
		return 0, 1, true
	case kindDeclared, kindPing, kindBye:
		return 0, 0, true
	}
	return 0, 0, false
}

// message is one message, either way.
type message struct {
	kind    kind
	texts   [4]string
	numbers [4]uint64
}

var errProtocol = errors.New("not a message of the gatekeepers' protocol")

// flag is how a yes or no is said.
func flag(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

// otherVersionError means that the other speaks another version.
type otherVersionError struct{ version uint64 }

func (e *otherVersionError) Error() string {
	return fmt.Sprintf("it speaks version %d of the gatekeepers' protocol, this proxy %d: upgrade the older of the two", e.version, protocolVersion)
}

// appendMessage writes m behind b.
func appendMessage(b []byte, m message) []byte {
	texts, numbers, _ := m.kind.fields()
	b = append(b, byte(m.kind))
	for _, n := range m.numbers[:numbers] {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range m.texts[:texts] {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// readMessage reads one message.
func readMessage(r *bufio.Reader) (message, error) {
	first, err := r.ReadByte()
	if err != nil {
		return message{}, err
	}
	m := message{kind: kind(first)}
	texts, numbers, known := m.kind.fields()
	if !known {
		return m, fmt.Errorf("%w: kind %d", errProtocol, first)
	}
	for i := range numbers {
		if m.numbers[i], err = binary.ReadUvarint(r); err != nil {
			return m, noEOF(err)
		}
		if m.kind == kindHello && i == 0 && m.numbers[0] != protocolVersion {
			return m, &otherVersionError{m.numbers[0]}
		}
	}
	for i := range texts {
		if m.texts[i], err = readText(r); err != nil {
			return m, err
		}
	}
	return m, nil
}

func readText(r *bufio.Reader) (string, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return "", noEOF(err)
	}
	if n > maxText {
		return "", fmt.Errorf("%w: a string of %d bytes", errProtocol, n)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), noEOF(err)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// hello is what a connection begins with, both ways. own is the address whose
// replicas the speaker keeps; "": none.
func (c Config) hello(own string) []byte {
	return appendMessage(nil, message{
		kind: kindHello, texts: [4]string{c.Name, own}, numbers: [4]uint64{protocolVersion, uint64(c.Incarnation)},
	})
}

// readHello reads the other's, and refuses one that speaks otherwise.
func readHello(r *bufio.Reader) (who identity, own string, err error) {
	m, err := readMessage(r)
	if err != nil {
		return identity{}, "", err
	}
	if m.kind != kindHello {
		return identity{}, "", fmt.Errorf("%w: kind %d, want a hello", errProtocol, m.kind)
	}
	return identity{m.texts[0], m.numbers[1]}, m.texts[1], nil
}
