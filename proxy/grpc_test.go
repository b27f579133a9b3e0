package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/serve-nomad/serve-nomad/routes"
)

// service is a replica's gRPC service. What a test does not set echoes.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary   func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	duplex  func(stream testpb.TestService_FullDuplexCallServer) error
	ongoing atomic.Int32
	most    atomic.Int32
}

func (s *service) enter() func() {
	n := s.ongoing.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	return func() { s.ongoing.Add(-1) }
}

func (s *service) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	defer s.enter()()
	if s.unary != nil {
		return s.unary(ctx, in)
	}
	return &testpb.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (s *service) StreamingInputCall(stream testpb.TestService_StreamingInputCallServer) error {
	defer s.enter()()
	var sum int32
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: sum})
		}
		if err != nil {
			return err
		}
		sum += int32(len(in.GetPayload().GetBody()))
	}
}

func (s *service) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer) error {
	defer s.enter()()
	for _, p := range in.GetResponseParameters() {
		if err := stream.Send(output(int(p.GetSize()))); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	defer s.enter()()
	if s.duplex != nil {
		return s.duplex(stream)
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(output(len(in.GetPayload().GetBody()))); err != nil {
			return err
		}
	}
}

func output(size int) *testpb.StreamingOutputCallResponse {
	return &testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, size)}}
}

func input(size int) *testpb.StreamingOutputCallRequest {
	return &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, size)}}
}

// grpcReplica starts a gRPC server that a test uses as a replica.
func grpcReplica(tb testing.TB, s *service, options ...grpc.ServerOption) (string, *grpc.Server) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(64<<20))...)
	testpb.RegisterTestServiceServer(server, s)
	healthpb.RegisterHealthServer(server, health.NewServer())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	tb.Cleanup(func() { server.Stop(); wg.Wait() })
	return l.Addr().String(), server
}

// speaking is a view whose deployment speaks a protocol.
func speaking(protocol string, a app) routes.View {
	return amend(a.view(), func(d *routes.Deployment) { d.Protocol = protocol })
}

// grpcRig is a proxy before one gRPC replica, and a client of it.
func grpcRig(tb testing.TB, s *service, a app, options ...grpc.ServerOption) (*rig, testpb.TestServiceClient) {
	tb.Helper()
	address, _ := grpcReplica(tb, s, options...)
	a.addresses = []string{address}
	r := start(tb, speaking(routes.ProtocolGRPC, a))
	return r, newTestClient(tb, r.addr)
}

func newTestClient(tb testing.TB, address string) testpb.TestServiceClient {
	tb.Helper()
	return testpb.NewTestServiceClient(grpcClient(tb, address))
}

func grpcClient(tb testing.TB, address string, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cc.Close() })
	return cc
}

// wantStatus checks the status that an error carries, and what it says.
func wantStatus(tb testing.TB, err error, code codes.Code, says string) {
	tb.Helper()
	if s := status.Convert(err); s.Code() != code || !strings.Contains(s.Message(), says) {
		tb.Errorf("status %s %q, want %s %q", s.Code(), s.Message(), code, says)
	}
}

func wantCancelled(tb testing.TB, err error) {
	tb.Helper()
	if !errors.Is(err, context.Canceled) {
		tb.Errorf("the replica was told %v", err)
	}
}

func payload(size int) *testpb.SimpleRequest {
	return &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, size)}}
}

func TestGRPCCalls(t *testing.T) {
	r, client := grpcRig(t, &service{}, app{ongoing: 5, queued: -1})
	t.Run("a unary call of any size", func(t *testing.T) {
		for _, size := range []int{0, 1, 16 << 10, 300 << 10, 12 << 20} {
			out, err := client.UnaryCall(t.Context(), payload(size))
			if err != nil || len(out.GetPayload().GetBody()) != size {
				t.Errorf("%d bytes: %d, %v", size, len(out.GetPayload().GetBody()), err)
			}
		}
	})
	t.Run("a stream of requests", func(t *testing.T) {
		stream, err := client.StreamingInputCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := stream.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 10000)}}); err != nil {
				t.Fatal(err)
			}
		}
		out, err := stream.CloseAndRecv()
		if err != nil || out.GetAggregatedPayloadSize() != 1_000_000 {
			t.Errorf("%v, %v", out, err)
		}
	})
	t.Run("a stream of responses", func(t *testing.T) {
		in := &testpb.StreamingOutputCallRequest{}
		sizes := []int32{31415, 9, 2653, 58979, 0, 1 << 20}
		for _, size := range sizes {
			in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: size})
		}
		stream, err := client.StreamingOutputCall(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range sizes {
			out, err := stream.Recv()
			if err != nil || len(out.GetPayload().GetBody()) != int(size) {
				t.Fatalf("%d bytes, %v, want %d", len(out.GetPayload().GetBody()), err, size)
			}
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("then %v", err)
		}
	})
	t.Run("one in answer to the other", func(t *testing.T) {
		stream, err := client.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for size := range 50 {
			if err := stream.Send(input(size)); err != nil {
				t.Fatal(err)
			}
			out, err := stream.Recv()
			if err != nil || len(out.GetPayload().GetBody()) != size {
				t.Fatalf("%d bytes, %v", len(out.GetPayload().GetBody()), err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("then %v", err)
		}
	})
	t.Run("a stream without messages", func(t *testing.T) {
		stream, err := client.FullDuplexCall(t.Context())
		if err == nil {
			err = stream.CloseSend()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("then %v", err)
		}
	})
	r.waitIdle(t)
}

func TestGRPCMetadata(t *testing.T) {
	seen := make(chan metadata.MD, 1)
	s := &service{unary: func(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", "1", "x-head-bin", "\x00\xff"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-tail", "2", "x-tail-bin", "\xfe\x00", "x-serve-error", "queue-full"))
		return &testpb.SimpleResponse{}, nil
	}}
	_, client := grpcRig(t, s, app{ongoing: 5, queued: -1})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "a", "1", "a", "2", "b-bin", "\x01\x02\x80", "x-request-id", "id-1")
	var head, tail metadata.MD
	if _, err := client.UnaryCall(ctx, payload(1), grpc.Header(&head), grpc.Trailer(&tail)); err != nil {
		t.Fatal(err)
	}
	got := <-seen
	for name, want := range map[string]string{
		"a": "1 2", "b-bin": "\x01\x02\x80", "x-request-id": "id-1", "x-forwarded-for": "127.0.0.1", "te": "",
	} {
		if strings.Join(got.Get(name), " ") != want {
			t.Errorf("the replica has %s %q, want %q", name, got.Get(name), want)
		}
	}
	for name, want := range map[string]string{"x-head": "1", "x-head-bin": "\x00\xff", "x-request-id": "id-1"} {
		if strings.Join(head.Get(name), " ") != want {
			t.Errorf("the client has header %s %q, want %q", name, head.Get(name), want)
		}
	}
	for name, want := range map[string]string{"x-tail": "2", "x-tail-bin": "\xfe\x00", "x-serve-error": ""} {
		if strings.Join(tail.Get(name), " ") != want {
			t.Errorf("the client has trailer %s %q, want %q", name, tail.Get(name), want)
		}
	}
}

// TestGRPCStatus holds that a status without any message gets through as one,
// each time: a proxy that sends its header ahead of an end that has come with it
// fails now and then.
func TestGRPCStatus(t *testing.T) {
	const special = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001F608\t\n"
	s := &service{
		unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, status.Error(codes.Unknown, special)
		},
		duplex: func(testpb.TestService_FullDuplexCallServer) error { return status.Error(codes.DataLoss, special) },
	}
	r, client := grpcRig(t, s, app{ongoing: 5, queued: -1})
	for range 30 {
		_, err := client.UnaryCall(t.Context(), payload(10))
		wantStatus(t, err, codes.Unknown, special)
		// The client has sent nothing, and the replica has ended.
		stream, err := client.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		wantStatus(t, err, codes.DataLoss, special)
		_, err = client.EmptyCall(t.Context(), &testpb.Empty{})
		wantStatus(t, err, codes.Unimplemented, "")
	}
	r.waitIdle(t)
}

func TestGRPCCancel(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	wait := func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	s := &service{
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, wait(ctx)
		},
		duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
			if err := stream.Send(output(1)); err != nil {
				return err
			}
			return wait(stream.Context())
		},
	}
	r, client := grpcRig(t, s, app{ongoing: 1, queued: -1})
	t.Run("of a unary call reaches the replica, and frees the slot", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(ctx, payload(1))
			failed <- err
		}()
		<-begun
		cancel()
		wantStatus(t, <-failed, codes.Canceled, "")
		wantCancelled(t, <-ended)
		r.waitIdle(t)
	})
	t.Run("of a stream does so too", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		<-begun
		cancel()
		wantCancelled(t, <-ended)
		r.waitIdle(t)
	})
	t.Run("by a client whose connection ends does so too", func(t *testing.T) {
		cc := grpcClient(t, r.addr)
		go func() { _, _ = testpb.NewTestServiceClient(cc).UnaryCall(context.Background(), payload(1)) }()
		<-begun
		_ = cc.Close()
		wantCancelled(t, <-ended)
		r.waitIdle(t)
	})
	t.Run("in the queue leaves it", func(t *testing.T) {
		first, stop := context.WithCancel(t.Context())
		go func() { _, _ = client.UnaryCall(first, payload(1)) }()
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(ctx, payload(1))
			failed <- err
		}()
		eventually(t, "it waits", func() bool { _, queued := r.load(); return queued == 1 })
		cancel()
		wantStatus(t, <-failed, codes.Canceled, "")
		eventually(t, "it has left", func() bool { _, queued := r.load(); return queued == 0 })
		stop()
		wantCancelled(t, <-ended)
		r.waitIdle(t)
	})
}

func TestGRPCDeadline(t *testing.T) {
	left := make(chan time.Duration, 1)
	s := &service{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		end, ok := ctx.Deadline()
		if !ok {
			left <- 0
			return &testpb.SimpleResponse{}, nil
		}
		left <- time.Until(end)
		return &testpb.SimpleResponse{}, nil
	}}
	t.Run("the client's is the replica's", func(t *testing.T) {
		_, client := grpcRig(t, s, app{ongoing: 5, queued: -1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := client.UnaryCall(ctx, payload(1)); err != nil {
			t.Fatal(err)
		}
		if d := <-left; d < 59*time.Minute || d > time.Hour {
			t.Errorf("the replica has %s", d)
		}
		if _, err := client.UnaryCall(t.Context(), payload(1)); err != nil {
			t.Fatal(err)
		}
		if d := <-left; d != 0 {
			t.Errorf("without a deadline the replica has %s", d)
		}
	})
	t.Run("request_timeout is the replica's where it ends sooner", func(t *testing.T) {
		_, client := grpcRig(t, s, app{ongoing: 5, queued: -1, timeout: time.Minute})
		for _, ask := range []time.Duration{0, time.Hour} {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if ask > 0 {
				ctx, cancel = context.WithTimeout(ctx, ask)
			}
			if _, err := client.UnaryCall(ctx, payload(1)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if d := <-left; d <= 0 || d > time.Minute {
				t.Errorf("the replica has %s", d)
			}
		}
	})
	t.Run("a replica that does not keep it is not waited for", func(t *testing.T) {
		stuck := make(chan struct{})
		t.Cleanup(func() { close(stuck) })
		s := &service{
			unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				<-stuck
				return nil, nil
			},
			duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
				_ = stream.Send(output(1))
				<-stuck
				return nil
			},
		}
		r, client := grpcRig(t, s, app{ongoing: 1, queued: -1, timeout: 100 * time.Millisecond})
		_, err := client.UnaryCall(t.Context(), payload(1))
		wantStatus(t, err, codes.DeadlineExceeded, "")
		r.waitIdle(t)
		stream, err := client.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		wantStatus(t, err, codes.DeadlineExceeded, "")
		r.waitIdle(t)
	})
	t.Run("it counts while the request waits", func(t *testing.T) {
		r := start(t, speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, timeout: 50 * time.Millisecond}))
		_, err := newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1))
		wantStatus(t, err, codes.DeadlineExceeded, "request_timeout")
	})
}

func TestGRPCSlots(t *testing.T) {
	const limit = 3
	s := &service{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
		return &testpb.SimpleResponse{}, nil
	}}
	r, client := grpcRig(t, s, app{ongoing: limit, queued: -1})
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			for j := range 10 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+j)%7 == 0 { // some leave
					time.AfterFunc(time.Millisecond, cancel)
				}
				_, err := client.UnaryCall(ctx, payload(1))
				if err != nil && status.Code(err) != codes.Canceled {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	r.waitIdle(t)
	if most := s.most.Load(); most > limit {
		t.Errorf("the replica had %d requests at once, over %d", most, limit)
	}
}

// TestGRPCCancelledHandlersFinish holds that a slot is not given on before a
// handler that has been told to stop has done so.
func TestGRPCCancelledHandlersFinish(t *testing.T) {
	begun := make(chan struct{})
	s := &service{unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		begun <- struct{}{}
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond) // what stopping takes
		return nil, ctx.Err()
	}}
	r, client := grpcRig(t, s, app{ongoing: 1, queued: -1})
	var wg sync.WaitGroup
	cancels := make(chan context.CancelFunc, 5)
	for range cap(cancels) {
		ctx, cancel := context.WithCancel(t.Context())
		cancels <- cancel
		wg.Go(func() { _, _ = client.UnaryCall(ctx, payload(1)) })
		eventually(t, "it is there", func() bool { ongoing, queued := r.load(); return ongoing+queued == len(cancels) })
	}
	for range cap(cancels) {
		<-begun
		(<-cancels)()
	}
	wg.Wait()
	r.waitIdle(t)
	if most := s.most.Load(); most > 1 {
		t.Errorf("the replica had %d requests at once", most)
	}
}

func TestGRPCRefusals(t *testing.T) {
	release := make(chan struct{})
	s := &service{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		<-release
		return &testpb.SimpleResponse{}, nil
	}}
	t.Run("a full queue is RESOURCE_EXHAUSTED, and says when to come again", func(t *testing.T) {
		r, client := grpcRig(t, s, app{ongoing: 1, queued: 0})
		done := make(chan error, 1)
		go func() {
			_, err := client.UnaryCall(context.Background(), payload(1))
			done <- err
		}()
		eventually(t, "the slot is taken", func() bool { return s.ongoing.Load() == 1 })
		var head, tail metadata.MD
		_, err := client.UnaryCall(t.Context(), payload(1), grpc.Header(&head), grpc.Trailer(&tail))
		wantStatus(t, err, codes.ResourceExhausted, "queued")
		if ms := tail.Get("grpc-retry-pushback-ms"); len(ms) != 1 || !strings.HasSuffix(ms[0], "000") {
			t.Errorf("header %v, trailer %v", head, tail)
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.waitIdle(t)
	})
	t.Run("a replica that cannot be reached is UNAVAILABLE", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close()
		v := speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, addresses: []string{address, address, address}})
		r := start(t, v)
		_, err = newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1))
		wantStatus(t, err, codes.Unavailable, "no replica could be reached")
	})
	t.Run("a replica that speaks HTTP/1.1 is UNAVAILABLE", func(t *testing.T) {
		address := replicaServer(t, func(http.ResponseWriter, *http.Request) {})
		r := start(t, speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, addresses: []string{address, address, address}}))
		_, err := newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1))
		wantStatus(t, err, codes.Unavailable, "no replica could be reached")
	})
	t.Run("without a table it is UNAVAILABLE", func(t *testing.T) {
		r := start(t, routes.View{})
		_, err := newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1))
		wantStatus(t, err, codes.Unavailable, "routing table")
	})
}

func TestGRPCReplicaDies(t *testing.T) {
	begun := make(chan struct{}, 1)
	s := &service{
		duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
			if err := stream.Send(output(100)); err != nil {
				return err
			}
			begun <- struct{}{}
			<-stream.Context().Done()
			return stream.Context().Err()
		},
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			begun <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	address, server := grpcReplica(t, s)
	r := start(t, speaking(routes.ProtocolGRPC, app{ongoing: 5, queued: -1, addresses: []string{address}}))
	client := newTestClient(t, r.addr)
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	<-begun
	unary := make(chan error, 1)
	go func() {
		_, err := client.UnaryCall(context.Background(), payload(1))
		unary <- err
	}()
	<-begun
	server.Stop()
	_, err = stream.Recv()
	wantStatus(t, err, codes.Unavailable, "broke off")
	wantStatus(t, <-unary, codes.Unavailable, "without an answer")
	r.waitIdle(t)
}

func TestGRPCRouting(t *testing.T) {
	who := func(name string) string {
		address, _ := grpcReplica(t, &service{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{Username: name}, nil
		}})
		return address
	}
	deployment := func(protocol string) routes.Deployment {
		return routes.Deployment{Version: "v1", MaxOngoingRequests: 5, MaxQueuedRequests: -1, Protocol: protocol}
	}
	v := routes.View{Known: true, Table: routes.Table{}}
	add := func(application, prefix, protocol string) {
		v.Table[application] = routes.Route{
			Application: application, RoutePrefix: prefix, Ingress: "in",
			Deployments: map[string]routes.Deployment{"in": deployment(protocol), "inner": deployment(protocol)},
		}
		for _, d := range []string{"in", "inner"} {
			v.Endpoints = append(v.Endpoints, routes.Endpoint{
				Replica: application + d, Application: application, Deployment: d, Version: "v1",
				Address: who(application + "/" + d), Passing: true,
			})
		}
	}
	add("web", "/", "")
	add("one", "/one", routes.ProtocolGRPC)
	t.Run("the only one that speaks it needs no name", func(t *testing.T) {
		r := start(t, v)
		out, err := newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1))
		if err != nil || out.GetUsername() != "one/in" {
			t.Errorf("%v, %v", out, err)
		}
	})
	add("two", "/two", routes.ProtocolH2C)
	add("three", "/grpc.testing.TestService/EmptyCall", routes.ProtocolGRPC)
	r := start(t, v)
	port := strings.TrimPrefix(r.handleURL, "http://")
	for name, c := range map[string]struct {
		address, authority string
		md                 []string
		want               string
		code               codes.Code
		says               string
	}{
		"by metadata":                      {address: r.addr, md: []string{"application", "one"}, want: "one/in"},
		"by metadata, h2c as well":         {address: r.addr, md: []string{"application", "two"}, want: "two/in"},
		"metadata before authority":        {address: r.addr, authority: "one.example:80", md: []string{"application", "two"}, want: "two/in"},
		"by the authority":                 {address: r.addr, authority: "two.example:80", want: "two/in"},
		"by the authority alone":           {address: r.addr, authority: "one", want: "one/in"},
		"several, and none is named":       {address: r.addr, code: codes.NotFound, says: "metadata application"},
		"an application that is not there": {address: r.addr, md: []string{"application", "four"}, code: codes.NotFound, says: "no such application"},
		"one that does not speak it":       {address: r.addr, md: []string{"application", "web"}, code: codes.Unimplemented, says: `protocol = "grpc"`},
		"its authority is not one":         {address: r.addr, authority: "web.example", code: codes.NotFound},
		"inner ones are not for outside":   {address: r.addr, md: []string{"application", "one", "deployment", "inner"}, want: "one/in"},
		"a handle by metadata":             {address: port, md: []string{"application", "one", "deployment", "inner"}, want: "one/inner"},
		"a handle by authority":            {address: port, authority: "inner.two", want: "two/inner"},
		"a handle without a name":          {address: port, code: codes.NotFound, says: "metadata application and deployment"},
		"a handle of an unknown one":       {address: port, md: []string{"application", "one", "deployment", "x"}, code: codes.NotFound},
		"a handle that does not speak it":  {address: port, md: []string{"application", "web", "deployment", "in"}, code: codes.Unimplemented},
	} {
		t.Run(name, func(t *testing.T) {
			var options []grpc.DialOption
			if c.authority != "" {
				options = append(options, grpc.WithAuthority(c.authority))
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), c.md...)
			out, err := testpb.NewTestServiceClient(grpcClient(t, c.address, options...)).UnaryCall(ctx, payload(1))
			if out.GetUsername() != c.want {
				t.Errorf("%q answered, want %q", out.GetUsername(), c.want)
			}
			wantStatus(t, err, c.code, c.says)
		})
	}
	t.Run("by a prefix of the path, which stays whole", func(t *testing.T) {
		_, err := newTestClient(t, r.addr).EmptyCall(t.Context(), &testpb.Empty{})
		wantStatus(t, err, codes.Unimplemented, "EmptyCall")
	})
}

func TestGRPCHealth(t *testing.T) {
	r, _ := grpcRig(t, &service{}, app{ongoing: 1, queued: -1})
	check := func(ctx context.Context, service string, options ...grpc.DialOption) (*healthpb.HealthCheckResponse, error) {
		return healthpb.NewHealthClient(grpcClient(t, r.addr, options...)).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	}
	want := func(t *testing.T, out *healthpb.HealthCheckResponse, err error, serving healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if err != nil || out.GetStatus() != serving {
			t.Errorf("%v, %v", out, err)
		}
	}
	out, err := check(t.Context(), "")
	want(t, out, err, healthpb.HealthCheckResponse_SERVING)
	out, err = check(t.Context(), "app")
	want(t, out, err, healthpb.HealthCheckResponse_SERVING)
	_, err = check(t.Context(), "nothing")
	wantStatus(t, err, codes.NotFound, "no such application")
	t.Run("of an application is its replicas'", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "application", "app")
		_, err := check(ctx, "some.Service")
		wantStatus(t, err, codes.NotFound, "unknown service")
		_, err = check(t.Context(), "some.Service", grpc.WithAuthority("app"))
		wantStatus(t, err, codes.NotFound, "unknown service")
	})
	t.Run("is not watched", func(t *testing.T) {
		stream, err := healthpb.NewHealthClient(grpcClient(t, r.addr)).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		wantStatus(t, err, codes.Unimplemented, "Check alone")
	})
	t.Run("is not given while the proxy drains", func(t *testing.T) {
		r.draining.Store(true)
		out, err := check(t.Context(), "")
		want(t, out, err, healthpb.HealthCheckResponse_NOT_SERVING)
	})
}

func TestGRPCManyStreamsOfOneReplica(t *testing.T) {
	hold := make(chan struct{})
	s := &service{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		<-hold
		return &testpb.SimpleResponse{}, nil
	}}
	for name, most := range map[string]uint32{"that takes any number": 1000, "that takes two on a connection": 2} {
		t.Run(name, func(t *testing.T) {
			hold = make(chan struct{})
			r, client := grpcRig(t, s, app{ongoing: 40, queued: -1}, grpc.MaxConcurrentStreams(most))
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() {
					if _, err := client.UnaryCall(t.Context(), payload(1)); err != nil {
						t.Error(err)
					}
				})
			}
			eventually(t, "all are there", func() bool { return s.ongoing.Load() == 40 })
			close(hold)
			wg.Wait()
			r.waitIdle(t)
		})
	}
}

// TestGRPCBackPressure holds that a client which does not read stops its
// replica, and nobody else's, with a bounded amount in between.
func TestGRPCBackPressure(t *testing.T) {
	var sent atomic.Int64
	stop := make(chan struct{})
	s := &service{duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
		for {
			if err := stream.Send(output(64 << 10)); err != nil {
				return err
			}
			sent.Add(64 << 10)
			select {
			case <-stop:
				return nil
			default:
			}
		}
	}}
	r, client := grpcRig(t, s, app{ongoing: 5, queued: -1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	eventually(t, "the replica has stopped", func() bool {
		was := last
		last = sent.Load()
		time.Sleep(20 * time.Millisecond)
		return last > 0 && last == was
	})
	if last > 8<<20 {
		t.Errorf("the replica could send %d bytes that nobody reads", last)
	}
	if _, err := client.UnaryCall(t.Context(), payload(1<<20)); err != nil {
		t.Errorf("another request: %v", err)
	}
	close(stop)
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	r.waitIdle(t)
}

// TestGRPCWaitersDoNotBlock holds that requests which wait for a slot, with
// bodies that nobody reads yet, do not keep the one from going on that has it.
func TestGRPCWaitersDoNotBlock(t *testing.T) {
	r, client := grpcRig(t, &service{}, app{ongoing: 1, queued: -1})
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(input(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := client.UnaryCall(t.Context(), payload(1<<20)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "they wait", func() bool { _, queued := r.load(); return queued == 20 })
	for range 20 {
		if err := stream.Send(input(200 << 10)); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	r.waitIdle(t)
}

// TestGRPCSilence holds that a stream may be silent for longer than a client may
// send nothing of another body.
func TestGRPCSilence(t *testing.T) {
	const stall = 50 * time.Millisecond
	address, _ := grpcReplica(t, &service{})
	v := speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, addresses: []string{address}})
	r := start(t, v, func(c *Config) { c.ClientStall = stall })
	stream, err := newTestClient(t, r.addr).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // before the response has begun, and after
		<-time.After(4 * stall)
		if err := stream.Send(input(1)); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGRPCClientThatDoesNotRead holds that a client which reads nothing of a
// response for too long loses its stream, and so gives the slot back.
func TestGRPCClientThatDoesNotRead(t *testing.T) {
	s := &service{duplex: func(stream testpb.TestService_FullDuplexCallServer) error {
		for {
			if err := stream.Send(output(64 << 10)); err != nil {
				return err
			}
		}
	}}
	address, _ := grpcReplica(t, s)
	v := speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, addresses: []string{address}})
	r := start(t, v, func(c *Config) { c.ClientStall = 50 * time.Millisecond })
	if _, err := newTestClient(t, r.addr).FullDuplexCall(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is there", func() bool { return s.ongoing.Load() == 1 })
	eventually(t, "it has lost the slot", func() bool { return s.ongoing.Load() == 0 })
	r.waitIdle(t)
}

func TestGRPCTimeoutWords(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1S": time.Second, "99999999m": 99999999 * time.Millisecond, "5u": 5 * time.Microsecond, "0n": 0, "2M": 2 * time.Minute, "1H": time.Hour,
	} {
		if got, ok := grpcTimeout(map[string][]string{"Grpc-Timeout": {text}}); !ok || got != want {
			t.Errorf("%s: %s, %v", text, got, ok)
		}
	}
	if d, ok := grpcTimeout(map[string][]string{"Grpc-Timeout": {"99999999H"}}); !ok || d < 100*365*24*time.Hour {
		t.Errorf("very long: %s, %v", d, ok)
	}
	for _, text := range []string{"", "S", "1", "-1S", "1.5S", "123456789S", "1s", "+1S", " 1S"} {
		if d, ok := grpcTimeout(map[string][]string{"Grpc-Timeout": {text}}); ok {
			t.Errorf("%q: %s", text, d)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "1u", time.Second: "1000000u", 3 * time.Minute: "180000m", 100 * time.Hour: "360000S", 1 << 62: "76861433M",
	} {
		if got := formatGRPCTimeout(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
	if got := encodeGRPCMessage("50% \n\u263a~"); got != "50%25 %0A%E2%98%BA~" {
		t.Errorf("encoded as %q", got)
	}
}

// TestProbeOverGRPC holds that a request which waits goes out as soon as a
// replica's health service says that it serves, before Consul does.
func TestProbeOverGRPC(t *testing.T) {
	address, _ := grpcReplica(t, &service{})
	v := speaking(routes.ProtocolGRPC, app{ongoing: 1, queued: -1, addresses: []string{address}})
	v = amend(v, func(d *routes.Deployment) { d.HealthPeriod = time.Minute })
	v.Endpoints[0].Passing, v.Endpoints[0].Unproven = false, true
	r := start(t, v)
	if _, err := newTestClient(t, r.addr).UnaryCall(t.Context(), payload(1)); err != nil {
		t.Error(err)
	}
	if s := r.Status().Deployments[0].Replicas; len(s) != 1 || !s[0].Probed {
		t.Errorf("%+v", s)
	}
}
