package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// Limits bound what clients may do, and say whom the proxy believes. They may be
// changed while it runs; zero values stand for the defaults.
type Limits struct {
	ClientStall time.Duration // for which a client may read nothing of a response, or send nothing of a body; default 60s
	MaxBody     int64         // bytes of a request's body, which an application may lower; past them 413; 0: no bound
	// MinBodyRate is how many bytes a second of a body must come on average,
	// ClientStall aside, while a replica waits for them; 0: no bound. It does not
	// bind gRPC, where a client may have nothing to say.
	MinBodyRate int64

	HeaderTimeout time.Duration // from a request's first byte to its last header; default 10s
	KeepAlive     time.Duration // for which a client's connection is kept without a request; default 60s
	MaxHeader     int           // bytes of a request's line and headers; default 64 KiB

	// MaxQueuedBytes is how much memory the waiting requests of one deployment
	// may hold, as near as is known; default 256 MiB.
	MaxQueuedBytes int64

	// TrustedProxies are addresses whose X-Forwarded-For and X-Forwarded-Proto
	// are believed.
	TrustedProxies []netip.Prefix
}

func (l Limits) withDefaults() Limits {
	l.ClientStall = cmp.Or(max(l.ClientStall, 0), time.Minute)
	l.HeaderTimeout = cmp.Or(max(l.HeaderTimeout, 0), 10*time.Second)
	l.KeepAlive = cmp.Or(max(l.KeepAlive, 0), time.Minute)
	l.MaxHeader = cmp.Or(max(l.MaxHeader, 0), 64<<10)
	l.MaxQueuedBytes = cmp.Or(max(l.MaxQueuedBytes, 0), 256<<20)
	return l
}

// SetLimits changes the limits for the requests to come. HeaderTimeout,
// KeepAlive and MaxHeader are those of servers that are made from then on.
func (p *Proxy) SetLimits(l Limits) {
	l = l.withDefaults()
	p.limits.Store(&l)
	p.maxQueuedBytes.Store(l.MaxQueuedBytes)
}

// bodyLimit is what binds the request's body on its way.
func (t *transit) bodyLimit() bodyLimit {
	l := t.proxy.limits.Load()
	return bodyLimit{control: &t.control, stall: l.ClientStall, rate: l.MinBodyRate, metered: t.metered}
}

// boundBody refuses a body that is too long, or has it measured where its length
// is not known, or its pace matters. own is the application's bound; 0: none.
func (t *transit) boundBody(own int64) *errorBody {
	if t.body == nil || t.metered != nil {
		return nil
	}
	l := t.proxy.limits.Load()
	bound := boundOf(l.MaxBody, own)
	if bound.most > 0 && t.r.ContentLength > bound.most {
		t.lastOnConnection()
		return bound.exceeded()
	}
	paced := l.MinBodyRate > 0 && !strings.HasPrefix(t.r.Header.Get("Content-Type"), "application/grpc")
	if paced || (bound.most > 0 && t.r.ContentLength < 0) {
		t.metered = &meteredBody{ReadCloser: t.r.Body, bound: bound}
		t.r.Body = t.metered
	}
	return nil
}

// bodyBound is how long a request's body may be.
type bodyBound struct {
	most int64 // bytes; 0: any number
	own  bool  // the application says so, rather than the proxy
}

// boundOf returns the narrower of a proxy's bound and an application's; 0: none.
func boundOf(proxy, application int64) bodyBound {
	if application > 0 && (proxy == 0 || application < proxy) {
		return bodyBound{most: application, own: true}
	}
	return bodyBound{most: proxy}
}

// Error implements error, for whoever reads past the bound.
func (b bodyBound) Error() string {
	who := "proxy"
	if b.own {
		who = "application"
	}
	return fmt.Sprintf("the request's body is larger than the %d bytes that this %s takes", b.most, who)
}

func (b bodyBound) exceeded() *errorBody {
	return &errorBody{Status: http.StatusRequestEntityTooLarge, Code: codeTooLarge, Message: b.Error()}
}

// lastOnConnection tells an HTTP/1 client that what is left of its body is no
// request.
func (t *transit) lastOnConnection() {
	if t.r.ProtoMajor == 1 {
		t.w.Header().Set("Connection", "close")
	}
}

// meteredBody is a request's body of which it is known how much has been read.
type meteredBody struct {
	io.ReadCloser
	bound bodyBound
	read  atomic.Int64
}

// Read implements io.Reader. Past the bound the error is that bound.
func (b *meteredBody) Read(p []byte) (int, error) {
	most := b.bound.most
	if most > 0 { // one byte past the bound is enough to know
		p = p[:min(int64(len(p)), max(1, most+1-b.read.Load()))]
	}
	n, err := b.ReadCloser.Read(p)
	if read := b.read.Add(int64(n)); most > 0 && read > most {
		return 0, b.bound
	}
	return n, err
}

// brokenBody is what a client is answered whose request's body could not be read.
func brokenBody(err error) *errorBody {
	var past bodyBound
	switch {
	case errors.As(err, &past):
		return past.exceeded()
	case timedOut(err):
		return &errorBody{Status: http.StatusRequestTimeout, Code: codeStalled, Message: "the request's body did not come, or too slowly"}
	}
	return &errorBody{Status: http.StatusBadRequest, Code: codeBadBody, Message: "the request's body could not be read"}
}
