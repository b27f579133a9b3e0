package listeners

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestAConnectionOverTheBoundIsClosedAtOnce(t *testing.T) {
	l := open(t, Options{MaxConnections: 2})
	serve(t, l, nil)
	first, second := dial(t, l.Addr()), dial(t, l.Addr())
	eventually(t, "two are open", func() bool { return l.Stats().Open == 2 })
	if got := say(t, l.Addr(), plainRequest); got != "" {
		t.Errorf("over the bound: %q", got)
	}
	eventually(t, "it is counted", func() bool { return l.Stats().Full == 1 })
	first.Close()
	eventually(t, "one is closed", func() bool { return l.Stats().Open == 1 })
	if got := say(t, l.Addr(), plainRequest); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("within the bound again: %q", got)
	}
	select {
	case <-l.Quiet():
		t.Error("quiet with a connection open")
	default:
	}
	second.Close()
	<-l.Quiet()
	if s := l.Stats(); s.Accepted != 4 || s.ClientFull != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestOneClientHasItsOwnBound(t *testing.T) {
	l := open(t, Options{MaxPerClient: 1, ProxyProtocol: everybody})
	serve(t, l, nil)
	stay := dial(t, l.Addr())
	if _, err := stay.Write(v2("10.0.0.1:1000")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted", func() bool {
		l.clients.mu.Lock()
		defer l.clients.mu.Unlock()
		return l.clients.each[netip.MustParseAddr("10.0.0.1")] == 1
	})
	if got := say(t, l.Addr(), string(v2("10.0.0.1:1001"))+plainRequest); got != "" {
		t.Errorf("a second connection of one client: %q", got)
	}
	if got := say(t, l.Addr(), string(v2("10.0.0.2:1001"))+plainRequest); !strings.HasSuffix(got, "10.0.0.2:1001") {
		t.Errorf("of another client: %q", got)
	}
	l.SetOptions(Options{MaxPerClient: 1, ProxyProtocol: everybody, Uncounted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}})
	if got := say(t, l.Addr(), string(v2("10.0.0.1:1002"))+plainRequest); !strings.HasSuffix(got, "10.0.0.1:1002") {
		t.Errorf("of a client that is not counted: %q", got)
	}
	stay.Close()
	<-l.Quiet()
	l.clients.mu.Lock()
	defer l.clients.mu.Unlock()
	if len(l.clients.each) != 0 || l.counts.clientFull.Load() != 1 {
		t.Errorf("left behind: %v; refused %d", l.clients.each, l.counts.clientFull.Load())
	}
}

func TestIPv6ClientsAreCountedByNetwork(t *testing.T) {
	for from, want := range map[string]string{
		"2001:db8:1:2:3::4": "2001:db8:1:2::", "2001:db8:1:2::": "2001:db8:1:2::", "fe80::1%eth0": "fe80::", "10.1.2.3": "10.1.2.3",
	} {
		if got := clientKey(netip.MustParseAddr(from)); got.String() != want {
			t.Errorf("%s: got %s, want %s", from, got, want)
		}
	}
}

// v2 is a PROXY protocol header, version 2, as HAProxy writes it.
func v2(from string, extensions ...byte) []byte {
	a := netip.MustParseAddrPort(from)
	addresses := append(append([]byte{}, a.Addr().AsSlice()...), a.Addr().AsSlice()...)
	addresses = binary.BigEndian.AppendUint16(addresses, a.Port())
	addresses = binary.BigEndian.AppendUint16(addresses, 80)
	family := byte(0x11)
	if a.Addr().Is6() {
		family = 0x21
	}
	return rawV2(0x21, family, append(addresses, extensions...))
}

func rawV2(command, family byte, rest []byte) []byte {
	head := append([]byte(signatureV2), command, family)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(rest))), rest...)
}

// summed puts the checksum into the extension that v2 was given room for.
func summed(header []byte, wrong uint32) []byte {
	binary.BigEndian.PutUint32(header[len(header)-4:], crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli))+wrong)
	return header
}

func TestProxyProtocol(t *testing.T) {
	room := []byte{typeCRC, 0, 4, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		header string
		client string // "-": the socket's own; "": refused
	}{
		"v1 IPv4":                   {"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", "192.0.2.1:5000"},
		"v1 IPv6":                   {"PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n", "[2001:db8::1]:5000"},
		"v1 unknown":                {"PROXY UNKNOWN\r\n", "-"},
		"v1 unknown with addresses": {"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "-"},
		"v2 IPv4":                   {string(v2("192.0.2.1:5000")), "192.0.2.1:5000"},
		"v2 IPv6":                   {string(v2("[2001:db8::1]:5000")), "[2001:db8::1]:5000"},
		"v2 with an extension":      {string(v2("192.0.2.1:5000", 4, 0, 3, 'a', 'b', 'c')), "192.0.2.1:5000"},
		"v2 with its checksum":      {string(summed(v2("192.0.2.1:5000", room...), 0)), "192.0.2.1:5000"},
		"v2 local":                  {string(rawV2(0x20, 0, nil)), "-"},
		"v2 local with addresses":   {string(rawV2(0x20, 0x11, make([]byte, 12))), "-"},
		"v2 of a Unix socket":       {string(rawV2(0x21, 0x31, make([]byte, 216))), "-"},

		"none":                          {"", ""},
		"another word":                  {"PROXI TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", ""},
		"v1 lower case":                 {"proxy TCP4 192.0.2.1 192.0.2.2 5000 80\r\n", ""},
		"v1 without CR":                 {"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\n", ""},
		"v1 too long":                   {"PROXY UNKNOWN " + strings.Repeat("a", 200) + "\r\n", ""},
		"v1 with IPv6 for TCP4":         {"PROXY TCP4 2001:db8::1 2001:db8::2 5000 80\r\n", ""},
		"v1 with a port over the bound": {"PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", ""},
		"v1 with a port below zero":     {"PROXY TCP4 192.0.2.1 192.0.2.2 -1 80\r\n", ""},
		"v1 with no address":            {"PROXY TCP4 a 192.0.2.2 5000 80\r\n", ""},
		"v1 with a word too few":        {"PROXY TCP4 192.0.2.1 192.0.2.2 5000\r\n", ""},
		"v1 with a word too many":       {"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80 1\r\n", ""},
		"v2 with version 1":             {string(rawV2(0x11, 0x11, make([]byte, 12))), ""},
		"v2 with an unknown command":    {string(rawV2(0x22, 0x11, make([]byte, 12))), ""},
		"v2 with an unknown family":     {string(rawV2(0x21, 0x41, make([]byte, 12))), ""},
		"v2 with an unknown transport":  {string(rawV2(0x21, 0x13, make([]byte, 12))), ""},
		"v2 too short for IPv4":         {string(rawV2(0x21, 0x11, make([]byte, 11))), ""},
		"v2 too short for IPv6":         {string(rawV2(0x21, 0x21, make([]byte, 35))), ""},
		"v2 too long":                   {string(rawV2(0x21, 0x11, make([]byte, maxV2+1))), ""},
		"v2 with a broken extension":    {string(v2("192.0.2.1:5000", 4, 0, 9, 'a')), ""},
		"v2 with half an extension":     {string(v2("192.0.2.1:5000", 4, 0)), ""},
		"v2 with a wrong checksum":      {string(summed(v2("192.0.2.1:5000", room...), 1)), ""},
		"v2 with a short checksum":      {string(v2("192.0.2.1:5000", typeCRC, 0, 1, 0)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, Options{ProxyProtocol: everybody})
			serve(t, l, nil)
			got := say(t, l.Addr(), c.header+plainRequest)
			_, client, _ := strings.Cut(got, "\r\n\r\n")
			switch c.client {
			case "":
				if got != "" || l.Stats().BadHeader != 1 {
					t.Errorf("got %q, counted %d", got, l.Stats().BadHeader)
				}
			case "-":
				if !strings.HasPrefix(client, "127.0.0.1:") {
					t.Errorf("got %q", got)
				}
			default:
				if client != c.client {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

// Each of them in the log at its usual level would let anybody fill it.
func TestTheFirstBadHeaderIsTold(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex // guards log
	l, err := Open(t.Context(), "public", "127.0.0.1:0", Options{ProxyProtocol: everybody}, hclog.New(&hclog.LoggerOptions{Output: &log, Mutex: &mu}))
	if err != nil {
		t.Fatal(err)
	}
	running(t, l)
	serve(t, l, nil)
	for range 3 {
		say(t, l.Addr(), plainRequest)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(log.String(), "without a PROXY protocol header"); n != 1 || l.Stats().BadHeader != 3 {
		t.Errorf("told %d times of %d: %s", n, l.Stats().BadHeader, &log)
	}
}

func TestProxyProtocolIsNotBelievedOfOthers(t *testing.T) {
	l := open(t, Options{ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	serve(t, l, nil)
	if got := say(t, l.Addr(), "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n"+plainRequest); !strings.HasPrefix(got, "HTTP/1.1 400") {
		t.Errorf("with a header: %q", got)
	}
	if got := say(t, l.Addr(), plainRequest); !strings.Contains(got, "127.0.0.1:") {
		t.Errorf("without one: %q", got)
	}
}

func TestAHeaderThatDoesNotComeHoldsUpNobody(t *testing.T) {
	l := open(t, Options{ProxyProtocol: everybody, HeaderTimeout: 50 * time.Millisecond})
	serve(t, l, nil)
	slow := dial(t, l.Addr())
	if _, err := io.WriteString(slow, "PROXY TCP4 "); err != nil {
		t.Fatal(err)
	}
	if got := say(t, l.Addr(), string(v2("192.0.2.1:5000"))+plainRequest); !strings.HasSuffix(got, "192.0.2.1:5000") {
		t.Errorf("another client: %q", got)
	}
	if got, _ := io.ReadAll(slow); len(got) != 0 {
		t.Errorf("the slow one got %q", got)
	}
	eventually(t, "it is given up", func() bool { s := l.Stats(); return s.BadHeader == 1 && s.Open == 0 })
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n"))
	f.Add(v2("[2001:db8::1]:5000", typeCRC, 0, 4, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		address, err := readHeader(r)
		if err != nil {
			return
		}
		if address != nil && !peer(address).IsValid() {
			t.Fatalf("%q: the address %v is none", data, address)
		}
		// Whatever follows a header is left alone.
		read := len(data) - r.Len()
		whole := append(bytes.Clone(data[:read]), "rest"...)
		again := bytes.NewReader(whole)
		if second, err := readHeader(again); err != nil || again.Len() != len("rest") || (second == nil) != (address == nil) {
			t.Fatalf("%q: read %d of %d, then %d, %v", data, read, len(data), again.Len(), err)
		}
	})
}

func TestStopGivesOutWhatWasAccepted(t *testing.T) {
	l := open(t, Options{ProxyProtocol: everybody})
	a := l.Attach()
	c := dial(t, l.Addr())
	eventually(t, "it is accepted", func() bool { return l.Stats().Open == 1 })
	l.Stop()
	<-l.ended
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
	if _, err := c.Write(v2("192.0.2.1:5000")); err != nil {
		t.Fatal(err)
	}
	got, err := a.Accept()
	if err != nil || got.RemoteAddr().String() != "192.0.2.1:5000" {
		t.Fatalf("got %v, %v", got, err)
	}
	got.Close()
	a.Detach()
	if _, err := a.Accept(); err == nil {
		t.Error("a connection from a detached port")
	}
}

func TestAnotherServerTakesOver(t *testing.T) {
	l := open(t, Options{})
	first := l.Attach()
	waiting := make(chan error, 1)
	go func() {
		_, err := first.Accept()
		waiting <- err
	}()
	serve(t, l, nil)
	first.Detach()
	if err := <-waiting; err == nil {
		t.Error("the first still accepts")
	}
	if err := first.Close(); err != nil { // as http.Server does
		t.Error(err)
	}
	for range 3 {
		if got := say(t, l.Addr(), plainRequest); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("got %q", got)
		}
	}
}

func TestAPauseLosesNothing(t *testing.T) {
	l := open(t, Options{})
	serve(t, l, nil)
	for range 5 {
		l.Pause()
		answer := make(chan string, 1)
		c := dial(t, l.Addr())
		if _, err := io.WriteString(c, plainRequest); err != nil {
			t.Fatal(err)
		}
		go func() {
			b, _ := io.ReadAll(c)
			answer <- string(b)
		}()
		if open := l.Stats().Open; open != 0 {
			t.Errorf("%d accepted in a pause", open)
		}
		l.Resume()
		if got := <-answer; !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("got %q", got)
		}
		eventually(t, "it is over", func() bool { return l.Stats().Open == 0 })
	}
}
