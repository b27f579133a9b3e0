// Package h2 is the client's side of HTTP/2 (RFC 9113) on one connection, for a
// proxy: many short streams at once, each of which has a goroutine already.
//
// A connection has two goroutines, one that reads and one that writes, and a
// stream has none, but for the one that sends its body. What several streams
// have to say goes out in one write, and what has come is told to all of them
// before the connection waits for more: at thousands of calls a second the
// system calls and wake-ups are most of what HTTP/2 costs.
//
// Frames and header compression are those of golang.org/x/net/http2.
package h2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serve-nomad/serve-nomad/nonblock"
)

// ErrNotTaken says that the server has certainly not begun with a request: it
// was not sent, or the server has said that it takes no more.
var ErrNotTaken = errors.New("the server has not taken the request")

var (
	errClosed  = errors.New("the connection was closed")
	errAnswers = errors.New("the server asks more than it reads answers")
)

// Bounds and first values of a connection. Those that the protocol begins with
// are of RFC 9113, section 6.5.2.
const (
	firstWindow   = 1<<16 - 1
	firstMaxFrame = 16 << 10
	firstTable    = 4 << 10
	maxWindow     = 1<<31 - 1
	maxStreamID   = 1<<31 - 1

	// Streams at once of a server that sets no limit.
	unlimitedStreams = 1000
	// What may be unread in all streams together: each has a bound of its own,
	// and one that is not read must not hold up the others.
	connWindow = 1 << 30
	readBuffer = 8 << 10
	// Frames that answer the server's, and wait to be written.
	maxAnswers = 10_000
	lastWords  = time.Second // for which a connection that fails may take to say why
)

// Config is what a connection is told. All of it must be set.
type Config struct {
	MaxHeader    int64         // bytes of the header of one response, as HTTP/2 counts them
	StreamBuffer int           // bytes of one response that are read ahead of its reader; at least 64 KiB
	WriteStall   time.Duration // for which the server may read nothing while there is something to be written
}

// Conn is a connection to a server. Its methods may be called at the same time.
type Conn struct {
	config Config
	nc     net.Conn
	out    io.Writer
	framer *http2.Framer // writes to pending, under mu; reading is the reader's alone

	// Of the reader alone.
	woken []*stream // have something new, and do not know it yet
	names nameCache

	mu       sync.Mutex
	err      error // nil: it is open
	streams  map[uint32]*stream
	reserved int
	nextID   uint32
	leaving  bool // the server takes no more streams

	greeted  chan struct{}
	settings bool // the server's first have come
	ponged   bool

	maxStreams uint32 // the server's settings
	window     int64  // of each new stream
	maxFrame   int
	maxHeader  uint64

	sendWindow int64
	received   int // bytes that the server has not been told are read

	fields  []hpack.HeaderField // of the request that is being written
	block   blockWriter
	encoder *hpack.Encoder
	lower   nameCache
	bodies  sync.Pool // buffers that bodies are read into

	pending []byte // what is to be written
	spare   []byte
	written int64 // bytes that were handed to the kernel, or are about to be
	queued  int64 // bytes ever put into pending
	answers int   // frames in pending that answer the server's
	idle    bool  // the writer waits for something to write
	work    sync.Cond
	room    sync.Cond
	waiting int // bodies that wait for room
}

// New greets the server of a new connection, and waits until it has said how
// many streams it takes, and with that, that it speaks HTTP/2. It closes nc
// where that fails.
func New(ctx context.Context, nc net.Conn, config Config) (*Conn, error) {
	c := &Conn{
		config: config, nc: nc, out: nc, streams: map[uint32]*stream{}, nextID: 1, greeted: make(chan struct{}),
		maxStreams: unlimitedStreams, window: firstWindow, maxFrame: firstMaxFrame, maxHeader: 1<<64 - 1, sendWindow: firstWindow,
	}
	c.work.L, c.room.L = &c.mu, &c.mu
	in := io.Reader(nc)
	if socket := nonblock.Of(nc); socket != nil {
		in, c.out = socket, socket
	}
	c.framer = http2.NewFramer((*frameWriter)(c), bufio.NewReaderSize(&tellsFirst{c, in}, readBuffer))
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(firstMaxFrame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(firstTable, nil)
	c.framer.MaxHeaderListSize = uint32(min(config.MaxHeader, 1<<31))
	c.encoder = hpack.NewEncoder(&c.block)
	c.mu.Lock()
	c.greet()
	c.mu.Unlock()
	go c.write()
	go c.read()
	select {
	case <-c.greeted:
	case <-ctx.Done():
		c.fail(context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	return c, nil
}

// greet writes what a client begins with. Errors of the framer are those of
// pending, which has none, here and below.
func (c *Conn) greet() {
	c.pending = append(c.pending, http2.ClientPreface...)
	c.queued += int64(len(http2.ClientPreface))
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.config.StreamBuffer)},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: firstMaxFrame},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.framer.MaxHeaderListSize},
	)
	_ = c.framer.WriteWindowUpdate(0, connWindow-firstWindow)
	_ = c.framer.WritePing(false, [8]byte{})
}

// isGreeted notes what the server has said. c.mu is held.
func (c *Conn) isGreeted() {
	if !c.settings || !c.ponged {
		return
	}
	select {
	case <-c.greeted:
	default:
		close(c.greeted)
	}
}

// CanTake says whether another request can be sent now.
func (c *Conn) CanTake() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.canTake()
}

func (c *Conn) canTake() bool {
	return c.err == nil && !c.leaving && c.nextID <= maxStreamID && uint32(len(c.streams)+c.reserved) < c.maxStreams
}

// Reserve keeps a stream for one RoundTrip, which must follow.
func (c *Conn) Reserve() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.canTake() {
		return false
	}
	c.reserved++
	return true
}

// Close ends the connection, and with it its streams.
func (c *Conn) Close() error {
	c.fail(errClosed)
	return nil
}

// fail ends the connection without a word.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(err)
	_ = c.nc.Close() // it is of no use, however it closes
}

// failWith ends the connection and tells the server why.
func (c *Conn) failWith(code http2.ErrCode, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	_ = c.framer.WriteGoAway(0, code, nil)
	_ = c.nc.SetWriteDeadline(time.Now().Add(lastWords)) // the writer closes it, also where it cannot write
	c.end(err)
}

// end fails all streams. c.mu is held.
func (c *Conn) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	select {
	case <-c.greeted:
	default:
		close(c.greeted)
	}
	for _, s := range c.streams {
		lost := err
		if s.start >= c.written {
			lost = fmt.Errorf("%w: %w", ErrNotTaken, err)
		}
		s.close(lost)
		s.tell()
	}
	c.work.Signal()
	c.room.Broadcast()
}
