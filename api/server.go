package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/nodescale"
	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

// Cluster is what the API needs of this server and of its peers.
type Cluster interface {
	// View returns the newest View, never nil.
	View() *View
	// Wait returns a View with another index than the given one, or the
	// newest when ctx ends before there is one.
	Wait(ctx context.Context, index uint64) *View
	// Propose returns ErrNoLeader when nothing was written. Any other error
	// leaves the outcome unknown.
	Propose(ctx context.Context, c raftstate.Command) (raftstate.Result, error)
	IsLeader() bool
	// Leader returns "" and "" when no leader is known.
	Leader() (id, address string)
	// LeaderTransport reaches the leader's API, whatever the host of the
	// request's URL. It returns ErrNoLeader when there is none.
	LeaderTransport() http.RoundTripper
	Peers() []Peer
}

// Planner says what a command would do. It returns a raftstate.Refusal when the
// command would be refused, and any other error when it cannot tell.
type Planner interface {
	Preview(command raftstate.Command) ([]reconcile.Step, error)
	// Room says where the replicas would run that the command's steps start. The
	// doubts are what Nomad itself says against it.
	Room(ctx context.Context, command raftstate.Command, steps []reconcile.Step) (room nodescale.Outlook, doubts []string, err error)
	// Unreadable says which queries that the rollouts would be held to cannot be
	// read now.
	Unreadable(ctx context.Context, command raftstate.Command) []string
}

// LogSource reads what replicas write.
type LogSource interface {
	// Logs returns ErrNotFound when the replica or its log is gone, and
	// ErrUnavailable when Nomad does not answer. The reader ends with ctx.
	Logs(ctx context.Context, req LogRequest) (io.ReadCloser, error)
}

// LogFunc is a function as a LogSource.
type LogFunc func(ctx context.Context, req LogRequest) (io.ReadCloser, error)

// Logs calls f.
func (f LogFunc) Logs(ctx context.Context, req LogRequest) (io.ReadCloser, error) { return f(ctx, req) }

// LogRequest says which log, and how much of it.
type LogRequest struct {
	Replica   string // allocation id
	Task      string
	Stream    string // stdout | stderr
	Follow    bool
	TailBytes int64 // begin this many bytes before the end; 0: at the beginning
}

// ServerConfig is what a Server is made of.
type ServerConfig struct {
	Cluster    Cluster
	Planner    Planner
	Logs       LogSource
	Loads      LoadSink   // nil: no load reports are taken
	Autoscaler Autoscaler // nil: nothing scales
	Nodes      Nodes      // nil: nothing is decided of nodes
	Settings   reconcile.Settings
	Info       ServerInfo // Leader and ClusterID are filled in for each answer
	Logger     hclog.Logger
	Now        func() time.Time // nil: time.Now
	NewID      func() string    // a fresh unique id

	ProposeLimit time.Duration // how long a write may take; 0: 10 s
	Heartbeat    time.Duration // of event streams; 0: 10 s
	MaxWatches   int           // blocking queries and streams at once; 0: 2,000
}

const (
	defaultProposeLimit = 10 * time.Second
	defaultHeartbeat    = 10 * time.Second
	defaultMaxWatches   = 2000
	writeLimit          = 30 * time.Second // for a client to take what was written to it
)

// Server answers the control API.
type Server struct {
	cfg     ServerConfig
	log     hclog.Logger
	routes  []route
	origin  *http.CrossOriginProtection
	watches atomic.Int64
}

// NewServer returns a Server.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ProposeLimit == 0 {
		cfg.ProposeLimit = defaultProposeLimit
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = defaultHeartbeat
	}
	if cfg.MaxWatches == 0 {
		cfg.MaxWatches = defaultMaxWatches
	}
	return &Server{
		cfg: cfg, log: cfg.Logger.Named("api"),
		routes: routeTable(), origin: http.NewCrossOriginProtection(),
	}
}

// HTTPServer returns an http.Server for s with the limits that it needs. Its
// requests, streams too, end when ctx does.
func (s *Server) HTTPServer(ctx context.Context) *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       baseContext(ctx),
		ErrorLog:          s.log.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
}

// ServeHTTP answers one request: the chain that every request goes through.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := s.cfg.Now()
	out := &responseWriter{ResponseWriter: w}
	defer s.recovered(out, r)
	if err := s.serve(out, r); err != nil {
		s.refuse(out, r, err)
	}
	s.log.Debug("request done", "method", r.Method, "path", r.URL.Path, "status", out.status,
		"remote", r.RemoteAddr, "took", s.cfg.Now().Sub(started))
}

// serve finds the route, checks who asks, and answers here or at the leader.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.origin.Check(r); err != nil {
		return fail(CodeForbidden, "a page of another site may not write here: %s", err)
	}
	found, params, err := match(s.routes, r.Method, r.URL.Path)
	if err != nil {
		return err
	}
	c := &call{server: s, w: w, r: r, params: params, query: r.URL.Query()}
	if err := c.checkQuery(found); err != nil {
		return err
	}
	c.stale = found.needs == read && c.flag("stale")
	if !found.local && !c.stale && !s.cfg.Cluster.IsLeader() {
		return s.forward(w, r, found)
	}
	return found.handle(c)
}

// refuse answers with err, unless the answer has begun already: then the
// connection is cut, so that nobody takes a part for the whole.
func (s *Server) refuse(w *responseWriter, r *http.Request, err error) {
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	if gone := r.Context().Err(); gone != nil && errors.Is(err, gone) {
		err = fail(CodeUnavailable, "this server is stopping")
	}
	f := asFailure(err)
	if f.Code == CodeInternal || f.Code == CodeUnknownOutcome {
		s.log.Warn("request not answered as asked", "method", r.Method, "path", r.URL.Path, "code", string(f.Code), "error", err)
	}
	writeError(w, f)
}

func (s *Server) recovered(w *responseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	s.log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	writeError(w, fail(CodeInternal, "a fault in serve-nomad, see the server's log"))
}

// responseWriter notes the status, and gives the client a limited time to take
// each write.
type responseWriter struct {
	http.ResponseWriter
	status int // 0: nothing was sent yet
}

func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(data []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	// Not every ResponseWriter has a deadline to set.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(writeLimit))
	return w.ResponseWriter.Write(data)
}

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
