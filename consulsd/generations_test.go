package consulsd

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/serve-nomad/serve-nomad/routes"
)

// rolling is a route with all that a rollout puts into one: replicas of another
// version beside the first, and two other generations, of which the newest has
// a deployment that no other has.
func rolling(application string) routes.Route {
	r := route(application)
	deployment := func(version string, also ...string) routes.Deployment {
		d := r.Deployments["main"]
		d.Version, d.Also = version, also
		return d
	}
	fresh := deployment("0badbeef-g3")
	fresh.Service = "serve-" + application + "-fresh"
	r.Generation, r.Sticky, r.Watched = 2, true, true
	r.Deployments = map[string]routes.Deployment{"main": deployment("0badcafe-g2", "0badf00d-g2")}
	r.Others = []routes.Generation{
		{Number: 0, Ingress: "main", Deployments: map[string]routes.Deployment{"main": deployment("0badcafe")}},
		{Number: 3, Weight: 10, Shadow: 5, Ingress: "main", Deployments: map[string]routes.Deployment{
			"main": deployment("0badcafe-g3"), "fresh": fresh,
		}},
	}
	return r
}

// rollingJSON is what rolling("a") is in Consul.
const rollingJSON = `{"schema":1,"cluster_id":"c1","application":"a","route_prefix":"/a","ingress":"main",` +
	`"deployments":{"main":{"service":"serve-a-main","version":"0badcafe-g2","also":["0badf00d-g2"],"max_ongoing_requests":5,"max_queued_requests":-1}},` +
	`"generation":2,"others":[{"number":0,"ingress":"main","deployments":` +
	`{"main":{"service":"serve-a-main","version":"0badcafe","max_ongoing_requests":5,"max_queued_requests":-1}}},` +
	`{"number":3,"weight":10,"shadow":5,"ingress":"main","deployments":` +
	`{"fresh":{"service":"serve-a-fresh","version":"0badbeef-g3","max_ongoing_requests":5,"max_queued_requests":-1},` +
	`"main":{"service":"serve-a-main","version":"0badcafe-g3","max_ongoing_requests":5,"max_queued_requests":-1}}}],` +
	`"sticky":true,"watched":true}`

func TestAnEntryOfGenerationsIsWrittenAsItIsRead(t *testing.T) {
	value, err := encodeEntry(rolling("a"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rollingJSON, string(value)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	got, err := decodeEntry("a", value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rolling("a"), got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	value, err = encodeEntry(route("a"))
	if diff := cmp.Diff(routeJSON, string(value)); err != nil || diff != "" {
		t.Errorf("without a rollout an entry is as it was (-want +got): %v\n%s", err, diff)
	}
}

// badGenerations is entries of which a rollout's part is wrong.
func badGenerations(t *testing.T) map[string]string {
	t.Helper()
	bad := map[string]string{}
	for name, change := range map[string][2]string{
		"a generation below 0":                  {`"generation":2`, `"generation":-1`},
		"another generation below 0":            {`"number":3`, `"number":-3`},
		"a generation of its own number":        {`"number":3`, `"number":2`},
		"a generation twice":                    {`"number":3`, `"number":0`},
		"a generation that is no number":        {`"number":3`, `"number":3.5`},
		"a weight below 0":                      {`"weight":10`, `"weight":-1`},
		"a weight over 100":                     {`"weight":10`, `"weight":101`},
		"a huge weight":                         {`"weight":10`, `"weight":9223372036854775807`},
		"weights over 100 together":             {`"number":0,`, `"number":0,"weight":91,`},
		"a weight that makes room for another":  {`"number":0,`, `"number":0,"weight":-90,`},
		"a shadow below 0":                      {`"shadow":5`, `"shadow":-1`},
		"a shadow over 100":                     {`"shadow":5`, `"shadow":101`},
		"another generation without an ingress": {`"shadow":5,"ingress":"main"`, `"shadow":5`},
		"another generation's ingress":          {`"shadow":5,"ingress":"main"`, `"shadow":5,"ingress":"nobody"`},
		"an ingress of another generation":      {`"ingress":"main","deployments":{"main":{"service":"serve-a-main","version":"0badcafe-g2"`, `"ingress":"fresh","deployments":{"main":{"service":"serve-a-main","version":"0badcafe-g2"`},
		"another generation of nothing":         {`{"number":0,"ingress":"main",`, `{"number":4},{"number":0,"ingress":"main",`},
		"null among the generations":            {`"others":[`, `"others":[null,`},
		"generations that are no list":          {`"others":[`, `"others":{"a":1},"x":[`},
		"another generation's name":             {`"fresh":`, `"../x":`},
		"another generation's service":          {`serve-a-fresh`, `../../kv/x`},
		"another generation's version":          {`0badbeef-g3`, `a/b`},
		"another generation's limit":            {`"version":"0badbeef-g3","max_ongoing_requests":5`, `"version":"0badbeef-g3","max_ongoing_requests":0`},
		"a further version that is a path":      {`"also":["0badf00d-g2"]`, `"also":["a/b"]`},
		"a further version that is empty":       {`"also":["0badf00d-g2"]`, `"also":[""]`},
		"a further version that is the first":   {`"also":["0badf00d-g2"]`, `"also":["0badcafe-g2"]`},
		"a further version twice":               {`"also":["0badf00d-g2"]`, `"also":["a","b","a"]`},
		"a further version of many letters":     {`"also":["0badf00d-g2"]`, `"also":["` + strings.Repeat("a", 400) + `"]`},
		"a thousand further versions":           {`"also":["0badf00d-g2"]`, `"also":[` + numbered(1000, `"v%d"`) + `]`},
		"a thousand generations": {`"others":[`, `"others":[` + numbered(1000, `{"number":1%d,"ingress":"main","deployments":`+
			`{"main":{"service":"serve-a-main","max_ongoing_requests":5}}}`) + `,`},
	} {
		bad[name] = strings.Replace(rollingJSON, change[0], change[1], 1)
		if bad[name] == rollingJSON {
			t.Errorf("%s: nothing is changed", name)
		}
	}
	return bad
}

func numbered(n int, format string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(list, ",")
}

func TestWeightsUpToAllRequests(t *testing.T) {
	for _, weights := range [][2]string{{"0", "100"}, {"90", "10"}, {"0", "0"}} {
		value := strings.NewReplacer(`"number":0,`, `"number":0,"weight":`+weights[0]+`,`, `"weight":10`, `"weight":`+weights[1]).Replace(rollingJSON)
		if _, err := decodeEntry("a", []byte(value)); err != nil {
			t.Errorf("%v: %v", weights, err)
		}
	}
}

func TestAGenerationThatIsOnlyCalledHasNoIngress(t *testing.T) {
	r := rolling("a")
	r.Others[0].Ingress = ""
	value, err := encodeEntry(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEntry("a", value)
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Errorf("read (-want +got): %v\n%s", err, diff)
	}
}

// replicaOf is an instance of any deployment and version.
func replicaOf(application, deployment, version, id string, port int) *api.ServiceEntry {
	e := replica(application, id, port)
	e.Service.Service = "serve-" + application + "-" + deployment
	e.Service.Meta["serve_deployment"], e.Service.Meta["serve_version"] = deployment, version
	return e
}

func endpointOf(application, deployment, version, id string, port int) routes.Endpoint {
	e := endpoint(application, id, port)
	e.Deployment, e.Version = deployment, version
	return e
}

func TestReplicasOfAllGenerationsAreFollowed(t *testing.T) {
	f, file := newFakeConsul(t), filepath.Join(t.TempDir(), "table")
	f.putRoute(rolling("search"))
	f.register("serve-search-main",
		replicaOf("search", "main", "0badcafe", "r1", 9001), replicaOf("search", "main", "0badf00d-g2", "r2", 9002))
	f.register("serve-search-fresh", replicaOf("search", "fresh", "0badbeef-g3", "r3", 9003))
	want := routes.View{
		Known: true, Table: routes.Table{"search": rolling("search")},
		Endpoints: []routes.Endpoint{
			endpointOf("search", "fresh", "0badbeef-g3", "r3", 9003),
			endpointOf("search", "main", "0badcafe", "r1", 9001),
			endpointOf("search", "main", "0badf00d-g2", "r2", 9002),
		},
	}
	w, stop := keeping(t, f.client(Config{}), file)
	sees(t, w, "the replicas of all generations", want)

	after := rolling("search")
	after.Others = after.Others[:1]
	f.putRoute(after)
	gone := want
	gone.Table, gone.Endpoints = routes.Table{"search": after}, want.Endpoints[1:]
	sees(t, w, "a generation without its replicas once it is gone", gone)
	f.putRoute(rolling("search"))
	sees(t, w, "it again", want)
	stop()

	f.breakWith(refuse)
	w, _ = keeping(t, f.client(Config{}), file)
	eventually(t, "what lies on disk", func() bool { return w.View().Known })
	v := w.View()
	if diff := cmp.Diff(want.Table, v.Table); diff != "" {
		t.Errorf("the route on disk (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Endpoints, v.Endpoints); diff != "" {
		t.Errorf("the replicas on disk (-want +got):\n%s", diff)
	}
}
