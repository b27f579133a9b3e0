package examples

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
)

// socketClient is a client's side of a WebSocket, frame by frame.
type socketClient struct {
	conn   net.Conn
	reader *bufio.Reader
}

// dialSocket opens one, and returns the head of the response.
func dialSocket(t *testing.T, url string) (*socketClient, string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &socketClient{conn: conn, reader: bufio.NewReader(conn)}
	_, err = io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	lines := textproto.NewReader(c.reader)
	head, err := lines.ReadLine()
	if err != nil {
		t.Fatal(err)
	}
	fields, err := lines.ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	return c, head + " " + fields.Get("Sec-WebSocket-Accept")
}

// exchange sends a frame and reads the one that comes back.
func (c *socketClient) exchange(t *testing.T, first byte, payload []byte) (byte, []byte) {
	t.Helper()
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n)) //nolint:gosec // it fits
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n)) //nolint:gosec // it is not negative
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask[:]...)
	for i, p := range payload {
		b = append(b, p^mask[i%4])
	}
	if _, err := c.conn.Write(b); err != nil {
		t.Fatal(err)
	}
	return c.read(t)
}

func (c *socketClient) read(t *testing.T) (first byte, payload []byte) {
	t.Helper()
	read := func(n uint64) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c.reader, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	head := read(2)
	size := uint64(head[1])
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(read(2)))
	case 127:
		size = binary.BigEndian.Uint64(read(8))
	}
	return head[0], read(size)
}
