package h2

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
)

// tellsFirst is what the reader reads from. Before it may wait, all streams are
// told what has come for them: once for several frames, and never late.
type tellsFirst struct {
	c  *Conn
	in io.Reader
}

func (t *tellsFirst) Read(p []byte) (int, error) {
	t.c.tellAll()
	return t.in.Read(p)
}

func (c *Conn) tellAll() {
	for _, s := range c.woken {
		s.queued = false
		s.tell()
	}
	clear(c.woken)
	c.woken = c.woken[:0]
}

// news notes that a stream is to be told.
func (c *Conn) news(s *stream) {
	if !s.queued {
		s.queued = true
		c.woken = append(c.woken, s)
	}
}

// read takes in frames until the connection has failed.
func (c *Conn) read() {
	err := c.readFrames()
	c.tellAll()
	var code http2.ConnectionError
	switch {
	case errors.As(err, &code):
		if detail := c.framer.ErrorDetail(); detail != nil {
			err = fmt.Errorf("%w: %w", err, detail)
		}
		c.failWith(http2.ErrCode(code), err)
	case errors.Is(err, http2.ErrFrameTooLarge):
		c.failWith(http2.ErrCodeFrameSize, err)
	default:
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		c.fail(err)
	}
}

func (c *Conn) readFrames() error {
	for first := true; ; first = false {
		f, err := c.framer.ReadFrame()
		if reset, ok := errors.AsType[http2.StreamError](err); ok {
			f, err = nil, c.malformed(reset)
		}
		if err != nil {
			return err
		}
		if _, ok := f.(*http2.SettingsFrame); first && !ok {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if f == nil {
			continue
		}
		if err := c.takeIn(f); err != nil {
			return err
		}
	}
}

// malformed resets the stream of a frame that is malformed.
func (c *Conn) malformed(reset http2.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.stream(reset.StreamID)
	if s != nil {
		s.resetLocked(reset.Code, reset)
	}
	return err
}

// stream returns the stream of a frame; nil: it has ended, and the frame has
// crossed with that. c.mu is held.
func (c *Conn) stream(id uint32) (*stream, error) {
	if id%2 == 0 || id >= c.nextID {
		return nil, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return c.streams[id], nil
}

// takeIn acts on a frame.
func (c *Conn) takeIn(f http2.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.MetaHeadersFrame:
		return c.takeHeaders(f)
	case *http2.SettingsFrame:
		return c.takeSettings(f)
	case *http2.WindowUpdateFrame:
		return c.takeWindow(f)
	case *http2.RSTStreamFrame:
		s, err := c.stream(f.StreamID)
		if s != nil {
			s.close(http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode})
			c.news(s)
		}
		return err
	case *http2.PingFrame:
		if f.IsAck() {
			c.ponged = true
			c.isGreeted()
			return nil
		}
		_ = c.framer.WritePing(true, f.Data)
		return c.answered()
	case *http2.GoAwayFrame:
		c.takeGoAway(f)
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil // what there is besides is of no concern, or not known
}

// answered counts what a server has answered that may read nothing of it.
func (c *Conn) answered() error {
	if c.answers++; c.answers > maxAnswers {
		return errAnswers
	}
	return nil
}

// takeGoAway notes that the server takes no more streams, and which of those
// that there are it has not begun with.
func (c *Conn) takeGoAway(f *http2.GoAwayFrame) {
	c.leaving = true
	for id, s := range c.streams {
		if id > f.LastStreamID {
			s.close(fmt.Errorf("%w: it goes away: %s", ErrNotTaken, f.ErrCode))
			c.news(s)
		}
	}
}

func (c *Conn) takeSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if err := f.ForeachSetting(c.takeSetting); err != nil {
		return err
	}
	c.settings = true
	c.isGreeted()
	c.room.Broadcast()
	_ = c.framer.WriteSettingsAck()
	return c.answered()
}

func (c *Conn) takeSetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		c.maxStreams = s.Val
	case http2.SettingMaxFrameSize:
		c.maxFrame = int(s.Val)
	case http2.SettingMaxHeaderListSize:
		c.maxHeader = uint64(s.Val)
	case http2.SettingHeaderTableSize:
		c.encoder.SetMaxDynamicTableSize(min(s.Val, firstTable))
	case http2.SettingEnablePush:
		if s.Val != 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
	case http2.SettingInitialWindowSize:
		more := int64(s.Val) - c.window
		c.window = int64(s.Val)
		for _, s := range c.streams {
			if s.sendWindow += more; s.sendWindow > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
	default: // not known, or for servers
	}
	return nil
}

func (c *Conn) takeWindow(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
	} else {
		s, err := c.stream(f.StreamID)
		if s == nil {
			return err
		}
		if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
			s.refuse(http2.ErrCodeFlowControl, nil)
			return nil
		}
	}
	if c.waiting > 0 {
		c.room.Broadcast()
	}
	return nil
}

// takeData takes in a part of a body. What it takes of the connection's window
// is given back at once, since each stream has a bound of its own.
func (c *Conn) takeData(f *http2.DataFrame) error {
	size := int64(f.Length) // with padding
	if c.received += int(size); c.received >= connWindow/1024 {
		_ = c.framer.WriteWindowUpdate(0, uint32(c.received))
		c.received = 0
	}
	s, err := c.stream(f.StreamID)
	if s == nil {
		return err
	}
	data := f.Data()
	if code, ok := s.mayTake(size, len(data)); !ok {
		s.refuse(code, nil)
		return nil
	}
	s.recvWindow -= size
	_, _ = s.body.Write(data) // it cannot fail
	if s.length > 0 {
		s.length -= int64(len(data))
	}
	if f.StreamEnded() {
		s.hasEnded()
	} else {
		s.hasRead(int(size) - len(data))
	}
	if len(data) > 0 || s.ended {
		c.news(s)
	}
	return nil
}

// mayTake says whether the server may send so much on the stream, and if not,
// by which rule.
func (s *stream) mayTake(size int64, data int) (http2.ErrCode, bool) {
	switch {
	case s.ended:
		return http2.ErrCodeStreamClosed, false
	case s.res == nil, s.length >= 0 && int64(data) > s.length:
		return http2.ErrCodeProtocol, false
	case size > s.recvWindow:
		return http2.ErrCodeFlowControl, false
	}
	return 0, true
}
