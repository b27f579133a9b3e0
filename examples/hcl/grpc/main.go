// Grpc is a gRPC server, which answers plain HTTP on the same port as well.
//
//	greeter.v1.Greeter/Greet    a greeting for a name
//	greeter.v1.Greeter/Count    as many numbers, one each 100 ms
//	greeter.v1.Greeter/Chat     a greeting for each name, as they come
//	grpc.health.v1.Health       the health check
//	GET /?name=Nomad            the same greeting, as JSON
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	maxName  = 100 // bytes
	maxCount = 1000
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	port := os.Getenv("PORT")
	if port == "" {
		return errors.New("set PORT to the port to listen on")
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	server := &http.Server{
		Addr: ":" + port, Handler: handler(), ReadHeaderTimeout: 10 * time.Second,
		Protocols: new(http.Protocols),
	}
	server.Protocols.SetUnencryptedHTTP2(true) // what protocol = "grpc" means: HTTP/2 without TLS
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("listening on port %s", port)
	select {
	case err := <-failed:
		return err
	case <-stop.Done():
	}
	// What has begun is finished; Nomad ends what takes too long.
	return server.Shutdown(context.Background())
}

// handler serves gRPC, and whatever else is HTTP.
func handler() http.Handler {
	calls := grpc.NewServer()
	calls.RegisterService(&service, greeter{})
	healthpb.RegisterHealthServer(calls, health.NewServer())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		greetJSON(w, r)
	})
}

// service is what protoc would make of greeter.proto. Its messages are ones that
// come with protobuf, so that nothing need be generated.
var service = grpc.ServiceDesc{
	ServiceName: "greeter.v1.Greeter",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Greet", Handler: func(s any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		return s.(greeter).greet(in)
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Count", ServerStreams: true, Handler: func(s any, stream grpc.ServerStream) error { return s.(greeter).count(stream) }},
		{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: func(s any, stream grpc.ServerStream) error { return s.(greeter).chat(stream) }},
	},
}

type greeter struct{}

func (greeter) greet(in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	text, err := greeting(in.GetValue())
	if err != nil {
		return nil, err
	}
	return wrapperspb.String(text), nil
}

func (greeter) count(stream grpc.ServerStream) error {
	in := new(wrapperspb.UInt32Value)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	if in.GetValue() > maxCount {
		return status.Errorf(codes.InvalidArgument, "count to %d at most", maxCount)
	}
	for i := range in.GetValue() {
		select {
		case <-stream.Context().Done(): // the client has left, or its time is over
			return status.FromContextError(stream.Context().Err()).Err()
		case <-time.After(100 * time.Millisecond):
		}
		if err := stream.SendMsg(wrapperspb.UInt32(i + 1)); err != nil {
			return err
		}
	}
	return nil
}

func (g greeter) chat(stream grpc.ServerStream) error {
	for {
		in := new(wrapperspb.StringValue)
		if err := stream.RecvMsg(in); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		out, err := g.greet(in)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(out); err != nil {
			return err
		}
	}
}

func greeting(name string) (string, error) {
	if len(name) > maxName {
		return "", status.Errorf(codes.InvalidArgument, "a name has %d bytes at most", maxName)
	}
	if name == "" {
		name = "whoever you are"
	}
	return fmt.Sprintf("hello %s, this is replica %s", name, os.Getenv("SERVE_REPLICA")), nil
}

func greetJSON(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	text, err := greeting(r.URL.Query().Get("name"))
	answer := map[string]string{"message": text}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		answer = map[string]string{"error": status.Convert(err).Message()}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		log.Print("answer: ", err) // the client has left
	}
}
