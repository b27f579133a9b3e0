package proxy

import (
	"testing"

	"github.com/serve-nomad/serve-nomad/routes"
)

// BenchmarkGRPC is calls of one message each way, with client, proxy and replica
// in one process; direct is the same without the proxy.
func BenchmarkGRPC(b *testing.B) {
	address, _ := grpcReplica(b, &service{})
	r := start(b, speaking(routes.ProtocolGRPC, app{ongoing: 1000, queued: -1, addresses: []string{address}}))
	for name, to := range map[string]string{"direct": address, "proxied": r.addr} {
		b.Run(name, func(b *testing.B) {
			client := newTestClient(b, to)
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.UnaryCall(b.Context(), payload(100)); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
	b.Run("a message of a stream, proxied", func(b *testing.B) {
		stream, err := newTestClient(b, r.addr).FullDuplexCall(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := stream.Send(input(100)); err != nil {
				b.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
