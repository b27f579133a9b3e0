package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"pgregory.net/rapid"

	"github.com/serve-nomad/serve-nomad/routes"
)

// gens is a view of an application "app" at /app with several generations, each
// with the ingress "main" and the deployment "helper".
type gens struct {
	own     int         // number of the route's own
	weights map[int]int // of the others
	shadows map[int]int // of the others

	sticky, watched, scales bool
	ongoing, queued         int
	timeout                 time.Duration
	protocol                string
	replicas                map[int][]string // addresses of "main", by generation
	helpers                 map[int][]string
}

func versionOf(generation int) string {
	if generation == 0 {
		return "v1"
	}
	return "v1-g" + strconv.Itoa(generation)
}

func (g gens) deployments(number int) map[string]routes.Deployment {
	d := routes.Deployment{
		Service: "serve-app-main", Version: versionOf(number), Protocol: g.protocol,
		MaxOngoingRequests: max(g.ongoing, 1), MaxQueuedRequests: g.queued,
	}
	if g.scales {
		d.MetricsInterval = time.Second
	}
	return map[string]routes.Deployment{"main": d, "helper": d}
}

func (g gens) view() routes.View {
	route := routes.Route{
		Schema: routes.Schema, Application: "app", RoutePrefix: "/app", Ingress: "main", RequestTimeout: g.timeout,
		Generation: g.own, Deployments: g.deployments(g.own), Sticky: g.sticky, Watched: g.watched,
	}
	for number, weight := range g.weights {
		route.Others = append(route.Others, routes.Generation{
			Number: number, Weight: weight, Shadow: g.shadows[number], Ingress: "main", Deployments: g.deployments(number),
		})
	}
	v := routes.View{Known: true, Table: routes.Table{"app": route}}
	for deployment, all := range map[string]map[int][]string{"main": g.replicas, "helper": g.helpers} {
		for number, addresses := range all {
			for i, address := range addresses {
				v.Endpoints = append(v.Endpoints, routes.Endpoint{
					Replica: fmt.Sprintf("%s-%d-%d", deployment, number, i), Application: "app", Deployment: deployment,
					Version: versionOf(number), Address: address, Passing: true,
				})
			}
		}
	}
	return v
}

// named is a replica that answers with its name, and what it was told of its
// prefix and saw of the path.
func named(tb testing.TB, name string) string {
	tb.Helper()
	return replicaServer(tb, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name+" "+r.Header.Get("X-Forwarded-Prefix")+" "+r.URL.Path)
	})
}

// from returns who has answered.
func from(tb testing.TB, r *rig, url string) string {
	tb.Helper()
	res, body := get(tb, r.client, url)
	if res.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %d %s", url, res.StatusCode, body)
	}
	name, _, _ := strings.Cut(body, " ")
	return name
}

// Of any hundred requests in a row at a proxy each generation gets as many as its
// weight, at each of several proxies, and they do not come all together.
func TestWeightsAreExact(t *testing.T) {
	zero, seven := named(t, "zero"), named(t, "seven")
	v := gens{weights: map[int]int{7: 10}, ongoing: 10, replicas: map[int][]string{0: {zero}, 7: {seven}}}.view()
	begins := map[int]bool{}
	for i := range 2 {
		r := start(t, v)
		var all []int // 1: it went to generation 7
		for range 300 {
			n := 0
			if from(t, r, r.url+"/app/x") == "seven" {
				n = 1
			}
			all = append(all, n)
		}
		first, apart := -1, 0
		for at := range 200 {
			sum := 0
			for _, n := range all[at : at+100] {
				sum += n
			}
			if sum != 10 {
				t.Fatalf("proxy %d: of the hundred from %d on %d went to the generation, want 10", i, at, sum)
			}
		}
		for at, n := range all {
			if n == 0 {
				continue
			}
			if first < 0 {
				first = at
			} else if at-apart < 3 {
				t.Errorf("proxy %d: requests %d and %d went to the generation", i, apart, at)
			}
			apart = at
		}
		begins[first] = true
	}
	t.Logf("the first came as %v", begins)
}

// TestPlacesLaw holds, of any weights, that any hundred places in a row are shared
// out by them.
func TestPlacesLaw(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		route := routes.Route{Generation: rapid.IntRange(0, 5).Draw(t, "own")}
		left := 100
		for number := range 5 {
			if number == route.Generation {
				continue
			}
			weight := rapid.IntRange(0, left).Draw(t, "weight")
			left -= weight
			route.Others = append(route.Others, routes.Generation{Number: number, Weight: weight})
		}
		a := newApplication(route, nil)
		a.draws.requests.Store(rapid.Uint64Range(0, 1<<40).Draw(t, "begin"))
		got := map[int]int{}
		for range 100 {
			got[a.at(place(&a.draws.requests)).number]++
		}
		for _, g := range route.Generations() {
			if got[g.Number] != g.Weight {
				t.Fatalf("generation %d has %d of a hundred, want %d", g.Number, got[g.Number], g.Weight)
			}
		}
	})
}

// A request that is drawn again does not count again.
func TestARequestKeepsItsPlace(t *testing.T) {
	t.Parallel()
	a := newApplication(routes.Route{Others: []routes.Generation{{Number: 7, Weight: 50}}}, nil)
	before := a.draws.requests.Load()
	tr := &transit{r: &http.Request{}}
	first := a.draw(tr)
	for range 10 {
		if a.draw(tr) != first {
			t.Fatal("it is drawn for another generation")
		}
	}
	if n := a.draws.requests.Load() - before; n != 1 {
		t.Errorf("it counts %d times", n)
	}
}

func TestWeightsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		others []routes.Generation
		want   map[int]int
	}{
		{"none", nil, map[int]int{5: 100}},
		{"too much", []routes.Generation{{Number: 1, Weight: 60}, {Number: 7, Weight: 70}}, map[int]int{5: 0, 7: 70, 1: 30}},
		{"less than nothing", []routes.Generation{{Number: 1, Weight: -60}, {Number: 7, Weight: 1 << 40}}, map[int]int{5: 0, 7: 100, 1: 0}},
		{"the same one twice", []routes.Generation{{Number: 5, Weight: 60}, {Number: 7, Weight: 10}, {Number: 7, Weight: 20}}, map[int]int{5: 90, 7: 10}},
	} {
		a := newApplication(routes.Route{Generation: 5, Others: test.others}, nil)
		got := map[int]int{}
		for _, g := range a.generations {
			got[g.number] += g.weight
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) || len(a.generations) != len(test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// A client that is in at 1 percent is in at 10, at every proxy, whichever
// generation is the route's own.
func TestSticky(t *testing.T) {
	t.Parallel()
	in := func(own, other, weight int, session, address string) bool {
		a := newApplication(routes.Route{Application: "app", Generation: own, Sticky: true, Others: []routes.Generation{{Number: other, Weight: weight}}}, nil)
		r := &http.Request{Header: http.Header{}, RemoteAddr: address}
		if session != "" {
			r.Header.Set(sessionHeader, session)
		}
		tr := &transit{r: r}
		return a.at(tr.stickyPlace("app")).number == max(own, other)
	}
	sizes := map[int]int{}
	for i := range 2000 {
		session, address := fmt.Sprint("session ", i), fmt.Sprintf("10.1.%d.%d:%d", i/250, i%250, 1000+i)
		if i%2 == 0 {
			session = ""
		}
		was := false
		for _, weight := range []int{0, 1, 10, 50, 100} {
			is := in(3, 7, weight, session, address)
			if was && !is {
				t.Fatalf("%q at %s is in, and at %d percent no more", session, address, weight)
			}
			// As the new one becomes the route's own, and the old one is left with the rest.
			if is != in(7, 3, 100-weight, session, address) {
				t.Fatalf("%q at %s changes sides when the route does, at %d percent", session, address, weight)
			}
			if is {
				sizes[weight]++
			}
			was = is
		}
		if is, again := in(3, 7, 50, session, address), in(3, 7, 50, session, "10.1.0.1:1"); session != "" && is != again {
			t.Fatalf("%q changes sides with its address", session)
		}
		host, _, _ := net.SplitHostPort(address)
		if is, again := in(3, 7, 50, session, address), in(3, 7, 50, session, host+":1"); is != again {
			t.Fatalf("%s changes sides with its port", address)
		}
	}
	if sizes[0] != 0 || sizes[1] < 5 || sizes[1] > 50 || sizes[10] < 140 || sizes[10] > 260 || sizes[50] < 900 || sizes[50] > 1100 || sizes[100] != 2000 {
		t.Errorf("of 2000 are in, by weight: %v", sizes)
	}
}

func TestStickyOverHTTP(t *testing.T) {
	zero, seven := named(t, "zero"), named(t, "seven")
	v := gens{weights: map[int]int{7: 50}, sticky: true, ongoing: 10, replicas: map[int][]string{0: {zero}, 7: {seven}}}.view()
	one, other := start(t, v), start(t, v)
	seen := map[string]bool{}
	for i := range 40 {
		who := ""
		for _, r := range []*rig{one, other, one} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/app", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("serve-session-id", fmt.Sprint(i))
			_, body := send(t, r.client, req)
			if who != "" && who != body {
				t.Fatalf("session %d had %q, and now %q", i, who, body)
			}
			who = body
		}
		seen[who] = true
	}
	if len(seen) != 2 {
		t.Errorf("40 sessions have only %v", seen)
	}
}

// TestWhoIsDrawn has generations that have nobody to serve requests.
func TestWhoIsDrawn(t *testing.T) {
	zero, five, seven := named(t, "zero"), named(t, "five"), named(t, "seven")
	for _, test := range []struct {
		name string
		view gens
		want map[string]int // of a hundred
	}{
		{"each by its weight", gens{own: 5, weights: map[int]int{0: 20, 7: 30}, replicas: map[int][]string{0: {zero}, 5: {five}, 7: {seven}}}, map[string]int{"zero": 20, "five": 50, "seven": 30}},
		{"a new one without replicas", gens{own: 5, weights: map[int]int{7: 30}, replicas: map[int][]string{5: {five}}}, map[string]int{"five": 100}},
		{"a new one without replicas that has everything", gens{own: 5, weights: map[int]int{7: 100}, replicas: map[int][]string{5: {five}}}, map[string]int{"five": 100}},
		{"an own one without replicas", gens{own: 5, weights: map[int]int{7: 30}, replicas: map[int][]string{7: {seven}}}, map[string]int{"seven": 100}},
		{"an own one without replicas, beside one on its way out", gens{own: 7, weights: map[int]int{5: 0}, replicas: map[int][]string{5: {five}}}, map[string]int{"five": 100}},
		{"the own one before others", gens{own: 5, weights: map[int]int{0: 20, 7: 30}, replicas: map[int][]string{0: {zero}, 5: {five}}}, map[string]int{"zero": 20, "five": 80}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.view.ongoing, test.view.queued = 10, 0
			r := start(t, test.view.view())
			got := map[string]int{}
			for range 100 {
				got[from(t, r, r.url+"/app")]++
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}

	t.Run("a new one that takes nothing yet stands in for nobody", func(t *testing.T) {
		r := start(t, gens{own: 5, weights: map[int]int{7: 0}, timeout: 50 * time.Millisecond, queued: -1, replicas: map[int][]string{7: {seven}}}.view())
		if res, body := get(t, r.client, r.url+"/app"); res.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("got %d %s", res.StatusCode, body)
		}
	})
	t.Run("an own one that has been scaled down to nobody is woken", func(t *testing.T) {
		view := gens{own: 5, weights: map[int]int{7: 1}, scales: true, queued: -1, replicas: map[int][]string{7: {seven}}}
		r := start(t, view.view())
		got := make(chan string)
		go func() { got <- from(t, r, r.url+"/app") + from(t, r, r.url+"/app") }()
		eventually(t, "a request waits", func() bool { return queuedIn(r, 5) == 1 })
		view.replicas[5] = []string{five}
		r.discovery.set(view.view())
		if who := <-got; !strings.Contains(who, "five") {
			t.Errorf("got %q", who)
		}
	})
}

// queuedIn is how many wait for the ingress of a generation.
func queuedIn(r *rig, generation int) int {
	for _, d := range r.Status().Deployments {
		if d.Generation == generation && d.Deployment == "main" {
			return d.Queued
		}
	}
	return 0
}

func ongoingIn(r *rig, generation int) int {
	for _, d := range r.Status().Deployments {
		if d.Generation == generation && d.Deployment == "main" {
			return d.Ongoing
		}
	}
	return 0
}

// TestHandlesStayInTheirGeneration has a replica of generation 7 call its helper
// while the route goes from generation 0 to 7 and on to 9.
func TestHandlesStayInTheirGeneration(t *testing.T) {
	mains, helpers := map[int][]string{}, map[int][]string{}
	for _, n := range []int{0, 7, 9} {
		mains[n], helpers[n] = []string{named(t, fmt.Sprint("main-", n))}, []string{named(t, fmt.Sprint("helper-", n))}
	}
	only := func(all map[int][]string, numbers ...int) map[int][]string {
		some := map[int][]string{}
		for _, n := range numbers {
			some[n] = all[n]
		}
		return some
	}
	r := start(t, gens{replicas: mains, helpers: helpers}.view())
	for _, stage := range []struct {
		name string
		view gens
		want map[string]string // of a handle
	}{
		{"alone", gens{replicas: only(mains, 0), helpers: only(helpers, 0)}, map[string]string{
			"app/helper": "helper-0", "app@0/helper": "helper-0", "app@7/helper": "helper-0",
		}},
		{"7 on its way in", gens{weights: map[int]int{7: 10}, replicas: only(mains, 0, 7), helpers: only(helpers, 0, 7)}, map[string]string{
			"app/helper": "helper-0", "app@7/helper": "helper-7", "app@7/main": "main-7", "app@9/helper": "helper-0",
		}},
		{"0 on its way out", gens{own: 7, weights: map[int]int{0: 0}, replicas: only(mains, 0, 7), helpers: only(helpers, 0, 7)}, map[string]string{
			"app/helper": "helper-0", "app@7/helper": "helper-7", "app@9/helper": "helper-7",
		}},
		{"7 alone", gens{own: 7, replicas: only(mains, 7), helpers: only(helpers, 7)}, map[string]string{
			"app/helper": "helper-7", "app@7/helper": "helper-7",
		}},
		{"9 on its way in", gens{own: 7, weights: map[int]int{9: 100}, replicas: only(mains, 7, 9), helpers: only(helpers, 7, 9)}, map[string]string{
			"app/helper": "helper-7", "app@7/helper": "helper-7", "app@9/helper": "helper-9",
		}},
		{"9 alone", gens{own: 9, replicas: only(mains, 9), helpers: only(helpers, 9)}, map[string]string{
			"app/helper": "helper-9", "app@7/helper": "helper-9", "app@9/helper": "helper-9",
		}},
	} {
		stage.view.ongoing = 10
		r.apply(stage.view.view())
		for handle, want := range stage.want {
			_, body := get(t, r.client, r.handleURL+"/"+handle+"/x")
			if want += " /" + handle + " /x"; body != want {
				t.Errorf("%s: %s: got %q, want %q", stage.name, handle, body, want)
			}
		}
	}
	for handle, code := range map[string]string{
		"app@/helper": codeNoRoute, "app@x/helper": codeNoRoute, "app@-1/helper": codeNoRoute, "app@9@9/helper": codeNoRoute,
		"app@99999999999999999999/helper": codeNoRoute, "@9/helper": codeNoRoute, "other@9/helper": codeNoRoute, "app@9/none": codeNoRoute, "app@9": codeNoRoute,
	} {
		if res, body := get(t, r.client, r.handleURL+"/"+handle); res.StatusCode != http.StatusNotFound || res.Header.Get(errorHeader) != code {
			t.Errorf("%s: got %d %s %s", handle, res.StatusCode, res.Header.Get(errorHeader), body)
		}
	}
	// '@' may come encoded.
	if _, body := get(t, r.client, r.handleURL+"/app%409/helper/x"); body != "helper-9 /app@9/helper /x" {
		t.Errorf("got %q", body)
	}
}

// TestWaitersFollowTheGeneration has requests wait for a generation that goes, and
// for one whose replicas go.
func TestWaitersFollowTheGeneration(t *testing.T) {
	for _, test := range []struct {
		name string
		then func(view *gens)
	}{
		{"the generation goes from the table", func(view *gens) { view.weights = nil }},
		{"its replicas go", func(view *gens) { view.replicas = map[int][]string{0: view.replicas[0]} }},
		{"it takes no more requests and its replicas go", func(view *gens) {
			view.weights, view.replicas = map[int]int{7: 0}, map[int][]string{0: view.replicas[0]}
		}},
		{"it becomes the route's own, and the other one goes", func(view *gens) { view.own, view.weights = 7, nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			release := make(chan struct{})
			busy := replicaServer(t, func(w http.ResponseWriter, _ *http.Request) {
				<-release
				_, _ = io.WriteString(w, "seven")
			})
			free := sync.OnceFunc(func() { close(release) })
			t.Cleanup(free)
			view := gens{weights: map[int]int{7: 100}, queued: 5, replicas: map[int][]string{0: {named(t, "zero")}, 7: {busy}}}
			r := start(t, view.view())
			var all sync.WaitGroup
			var answered atomic.Int32
			for range 4 {
				all.Go(func() {
					if res, body := get(t, r.client, r.url+"/app"); res.StatusCode == http.StatusOK {
						answered.Add(1)
					} else {
						t.Errorf("got %d %s", res.StatusCode, body)
					}
				})
			}
			eventually(t, "one is at work and three wait", func() bool { return ongoingIn(r, 7) == 1 && queuedIn(r, 7) == 3 })
			test.then(&view)
			r.discovery.set(view.view())
			if view.own == 0 {
				eventually(t, "those who wait are served by the other generation", func() bool { return answered.Load() == 3 })
			}
			free()
			all.Wait()
			eventually(t, "nothing is left", func() bool { return ongoingIn(r, 7)+queuedIn(r, 7)+ongoingIn(r, 0)+queuedIn(r, 0) == 0 })
		})
	}
}

// A handle's call waits for its own generation, whoever else could serve it.
func TestHandlesWaitForTheirGeneration(t *testing.T) {
	view := gens{weights: map[int]int{7: 50}, queued: -1, helpers: map[int][]string{0: {named(t, "zero")}}, replicas: map[int][]string{0: {named(t, "zero")}}}
	r := start(t, view.view())
	got := make(chan string, 2)
	for _, deployment := range []string{"helper", "main"} {
		go func() { got <- from(t, r, r.handleURL+"/app@7/"+deployment) }()
	}
	waits := func() (n int) {
		for _, d := range r.Status().Deployments {
			n += d.Queued
		}
		return n
	}
	eventually(t, "both wait", func() bool { return waits() == 2 })
	for range 5 { // the other generation could serve what came on the public port
		r.discovery.set(view.view())
		from(t, r, r.url+"/app")
	}
	if waits() != 2 {
		t.Error("a call has gone to another generation")
	}
	seven := named(t, "seven")
	view.helpers[7], view.replicas[7] = []string{seven}, []string{seven}
	r.discovery.set(view.view())
	if one, two := <-got, <-got; one != "seven" || two != "seven" {
		t.Errorf("got %q and %q", one, two)
	}
}

// A generation whose only replica cannot be reached, though Consul says that it
// passes, costs nobody a request.
func TestGenerationThatCannotBeReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	o := &observer{}
	view := gens{weights: map[int]int{7: 100}, ongoing: 10, replicas: map[int][]string{0: {named(t, "zero")}, 7: {dead}}}
	r := start(t, view.view(), observed(o))
	for range 10 {
		if who := from(t, r, r.url+"/app"); who != "zero" {
			t.Errorf("got %q", who)
		}
	}
	if first := o.next(t); first.Unmet != 1 || first.Tries != 2 || first.Generation != 0 || first.Version != "v1" {
		t.Errorf("the first: %+v", first)
	}
	if second := o.next(t); second.Unmet != 0 {
		t.Errorf("the second was sent there as well: %+v", second)
	}
}

func TestStatusOfGenerations(t *testing.T) {
	o := &observer{}
	r := start(t, gens{own: 5, weights: map[int]int{7: 30}, shadows: map[int]int{}, replicas: map[int][]string{5: {named(t, "five")}}}.view(), observed(o))
	want := []GenerationStatus{
		{Application: "app", Generation: 5, Own: true, Weight: 70, Ingress: "main", Takes: true},
		{Application: "app", Generation: 7, Weight: 30, Ingress: "main"},
	}
	if got := r.Status().Generations; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v", got)
	}
	from(t, r, r.url+"/app")
	if got := o.next(t); got.Generation != 5 || got.Version != "v1-g5" {
		t.Errorf("%+v", got)
	}
	r.apply(app{ongoing: 1}.view())
	if got := r.Status().Generations; got != nil {
		t.Errorf("of an application that has one: %+v", got)
	}
}

func TestGRPCGenerations(t *testing.T) {
	say := func(name string) string {
		s := &service{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{Username: name}, nil
		}}
		address, _ := grpcReplica(t, s)
		return address
	}
	zero, seven := say("zero"), say("seven")
	view := gens{
		weights: map[int]int{7: 30}, protocol: routes.ProtocolGRPC, ongoing: 10,
		replicas: map[int][]string{0: {zero}, 7: {seven}}, helpers: map[int][]string{0: {zero}, 7: {seven}},
	}
	r := start(t, view.view())
	call := func(c testpb.TestServiceClient, pairs ...string) string {
		t.Helper()
		res, err := c.UnaryCall(metadata.AppendToOutgoingContext(t.Context(), pairs...), payload(1))
		if err != nil {
			t.Fatal(err)
		}
		return res.GetUsername()
	}
	public := newTestClient(t, r.addr)
	got := map[string]int{}
	for range 100 {
		got[call(public)]++
	}
	if got["zero"] != 70 || got["seven"] != 30 {
		t.Errorf("of a hundred: %v", got)
	}
	handles := newTestClient(t, strings.TrimPrefix(r.handleURL, "http://"))
	for application, want := range map[string]string{"app": "zero", "app@7": "seven", "app@9": "zero"} {
		if who := call(handles, "application", application, "deployment", "helper"); who != want {
			t.Errorf("%s: got %q, want %q", application, who, want)
		}
	}
	_, err := handles.UnaryCall(metadata.AppendToOutgoingContext(t.Context(), "application", "app@x", "deployment", "helper"), payload(1))
	wantStatus(t, err, codes.NotFound, "there is no such deployment")
	for authority, want := range map[string]string{"helper.app": "zero", "helper.app.7": "seven", "helper.app.7.example.com": "seven", "helper.app.proxy.local": "zero"} {
		req := &http.Request{Host: authority, Header: http.Header{}}
		to, fault := grpcByHandle(r.routing.Load(), &transit{r: req})
		if fault != nil || (to.gate.Generation == 7) != (want == "seven") {
			t.Errorf("%s: %+v %v", authority, to.gate, fault)
		}
	}
	// Where only one of them speaks gRPC, that has all calls.
	one := view.view()
	route := one.Table["app"]
	for name, d := range route.Deployments {
		d.Protocol = ""
		route.Deployments[name] = d
	}
	route.Others[0].Weight = 0
	route.Others[0].Number, route.Generation = 0, 7
	route.Deployments, route.Others[0].Deployments = route.Others[0].Deployments, route.Deployments
	one.Table["app"] = route
	r.apply(one)
	if who := call(public); who != "seven" {
		t.Errorf("a gRPC call went to %q", who)
	}
}
