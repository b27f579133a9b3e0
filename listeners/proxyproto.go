package listeners

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"

	proxyproto "github.com/pires/go-proxyproto"
)

// Bounds of a PROXY protocol header, as HAProxy's proxy-protocol.txt gives them.
const (
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	signatureV1 = "PROXY "
	maxV1       = 107 // bytes of a v1 line, with its end
	prefixV2    = 16  // bytes of a v2 header ahead of the addresses
	maxV2       = 4096
	typeCRC     = 3 // of the TLV with a v2 header's CRC-32c
)

var (
	errNoHeader  = errors.New("it does not begin with a PROXY protocol header")
	errLongV1    = fmt.Errorf("its v1 line has no end within %d bytes", maxV1)
	errLongV2    = fmt.Errorf("its v2 header is longer than %d bytes", maxV2)
	errChecksum  = errors.New("its v2 header does not match the checksum in it")
	errBrokenTLV = errors.New("its v2 header has an extension that passes its end")
)

// readHeader reads a PROXY protocol header, and not a byte more, so that the
// connection can be used as it is afterwards. It returns the client's address;
// nil: the sender speaks for itself, as with a health check.
func readHeader(r io.Reader) (net.Addr, error) {
	raw := make([]byte, len(signatureV2), 256)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	var err error
	switch {
	case string(raw) == signatureV2:
		raw, err = readV2(r, raw)
	case bytes.HasPrefix(raw, []byte(signatureV1)):
		raw, err = readV1(r, raw)
	default:
		return nil, errNoHeader
	}
	if err != nil {
		return nil, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	if header.Command.IsLocal() {
		return nil, nil
	}
	tcp, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok || !header.TransportProtocol.IsStream() {
		return nil, nil // a client on a Unix socket has no address
	}
	return tcp, nil
}

// readV1 reads the rest of a v1 line byte by byte: only its end says how long
// it is, and what follows is the client's.
func readV1(r io.Reader, raw []byte) ([]byte, error) {
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, err
		}
		raw = append(raw, one[0])
		switch {
		case one[0] == '\n':
			return raw, nil
		case len(raw) == maxV1:
			return nil, errLongV1
		}
	}
}

func readV2(r io.Reader, raw []byte) ([]byte, error) {
	raw = raw[:prefixV2]
	if _, err := io.ReadFull(r, raw[len(signatureV2):]); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(raw[prefixV2-2:]))
	if length > maxV2 {
		return nil, errLongV2
	}
	raw = append(raw, make([]byte, length)...)
	if _, err := io.ReadFull(r, raw[prefixV2:]); err != nil {
		return nil, err
	}
	return raw, checkV2(raw)
}

// checkV2 compares a v2 header with the checksum in it, if there is one.
func checkV2(raw []byte) error {
	addresses := addressBytes(raw[13] >> 4)
	if raw[12]&0x0f == 0 || len(raw) < prefixV2+addresses {
		return nil // of what speaks for itself nothing is believed; what is too short is refused later
	}
	for rest := raw[prefixV2+addresses:]; len(rest) > 0; {
		if len(rest) < 3 || len(rest) < 3+int(binary.BigEndian.Uint16(rest[1:])) {
			return errBrokenTLV
		}
		kind, value := rest[0], rest[3:3+int(binary.BigEndian.Uint16(rest[1:]))]
		rest = rest[3+len(value):]
		if kind != typeCRC {
			continue
		}
		if len(value) != crc32.Size {
			return errChecksum
		}
		want := binary.BigEndian.Uint32(value)
		clear(value)
		got := crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
		binary.BigEndian.PutUint32(value, want)
		if got != want {
			return errChecksum
		}
	}
	return nil
}

// addressBytes is the length of the addresses of a v2 header's family.
func addressBytes(family byte) int {
	switch family {
	case 1: // IPv4
		return 12
	case 2: // IPv6
		return 36
	case 3: // Unix
		return 216
	}
	return 0
}
