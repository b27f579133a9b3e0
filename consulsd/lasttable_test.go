package consulsd

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// keeping runs a Watcher that keeps its view in a file, until stop is called.
func keeping(t *testing.T, c *Client, file string) (w *Watcher, stop func()) {
	t.Helper()
	w = NewWatcher(c)
	w.KeepIn(file, c)
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { w.Run(ctx) })
	stop = func() { cancel(); run.Wait() }
	t.Cleanup(stop)
	return w, stop
}

// full is a Consul with one application, and a file that its view is kept in.
func full(t *testing.T) (f *fakeConsul, file string) {
	t.Helper()
	f, file = newFakeConsul(t), filepath.Join(t.TempDir(), "proxy", "table")
	f.putRoute(route("search"))
	f.register("serve-search-main", replica("search", "r1", 9001), critical(replica("search", "r2", 9002), "refused"))
	w, stop := keeping(t, f.client(Config{}), file)
	eventually(t, "it is seen", func() bool { return len(w.View().Endpoints) == 2 })
	stop()
	return f, file
}

func refuse(w http.ResponseWriter, _ *http.Request) bool {
	panic(http.ErrAbortHandler)
}

func TestAStartWithoutConsulShowsWhatLiesOnDisk(t *testing.T) {
	f, file := full(t)
	f.breakWith(refuse)
	w, _ := keeping(t, f.client(Config{}), file)
	eventually(t, "what lies on disk", func() bool { return w.View().Known })
	v := w.View()
	if len(v.Table) != 1 || len(v.Endpoints) != 2 || !v.Endpoints[0].Passing || v.Endpoints[1].Passing {
		t.Errorf("got %+v", v)
	}
	if !strings.Contains(v.Error, "lay on disk") {
		t.Errorf("the error is %q", v.Error)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	// Consul is back, and says something else.
	f.putRoute(route("other"))
	f.register("serve-other-main", replica("other", "r9", 9009))
	f.drop("serve-nomad/routes/search")
	f.breakWith(nil)
	sees(t, w, "what Consul says", routes.View{
		Known: true, Table: routes.Table{"other": route("other")}, Endpoints: []routes.Endpoint{endpoint("other", "r9", 9009)},
	})
	eventually(t, "that is on disk", func() bool {
		now, err := os.ReadFile(file)
		return err == nil && !bytes.Equal(now, before) && bytes.Contains(now, []byte(`"r9"`))
	})
}

func TestAConsulThatAnswersWinsAtOnce(t *testing.T) {
	f, file := full(t)
	f.drop("serve-nomad/routes/search")
	w, _ := keeping(t, f.client(Config{}), file)
	for !w.View().Known {
		<-w.Updates()
	}
	if v := w.View(); len(v.Table) != 0 || len(v.Endpoints) != 0 || v.Error != "" {
		t.Errorf("got %+v", v)
	}
}

func TestAServiceThatIsNotReadHasItsReplicasFromDisk(t *testing.T) {
	f, file := full(t)
	f.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/health/") {
			return false
		}
		http.Error(w, "overloaded", http.StatusInternalServerError)
		return true
	})
	w, _ := keeping(t, f.client(Config{}), file)
	eventually(t, "it is seen", func() bool { return w.View().Known })
	if v := w.View(); len(v.Endpoints) != 2 || !strings.Contains(v.Error, "overloaded") {
		t.Errorf("got %+v", v)
	}
	f.register("serve-search-main", replica("search", "r3", 9003))
	f.breakWith(nil)
	sees(t, w, "what Consul says", routes.View{
		Known: true, Table: routes.Table{"search": route("search")}, Endpoints: []routes.Endpoint{endpoint("search", "r3", 9003)},
	})
}

func TestAConsulThatComesBackWithoutItsDataLosesNothingAtOnce(t *testing.T) {
	f, file := full(t)
	f.breakWith(refuse)
	w, _ := keeping(t, f.client(Config{}), file)
	eventually(t, "what lies on disk", func() bool { return w.View().Known })
	f.empty(3)
	f.breakWith(nil)
	eventually(t, "it is read", func() bool { return w.View().Error == "" })
	if v := w.View(); len(v.Table) != 1 || v.Kept["search"] == "" {
		t.Errorf("got %+v", v)
	}
}

func TestATableOnDiskThatIsOfNoUseIsIgnored(t *testing.T) {
	f, file := full(t)
	f.breakWith(refuse)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := bytes.Cut(good, []byte("\n"))
	resum := func(body []byte) []byte {
		t.Helper()
		s, err := decodeSaved(good, DefaultPrefix)
		if err != nil {
			t.Fatal(err)
		}
		if body == nil {
			s.Table["search"] = routes.Route{Application: "search"}
		}
		data, err := encodeSaved(s)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, c := range map[string]struct {
		data   []byte
		prefix string
	}{
		"empty":                 {nil, ""},
		"half of it":            {good[:len(good)/2], ""},
		"a flipped bit":         {append(append(bytes.Clone(head), '\n'), bytes.Replace(body, []byte("9001"), []byte("9801"), 1)...), ""},
		"of another version":    {bytes.Replace(good, []byte("table 1"), []byte("table 2"), 1), ""},
		"something else":        {[]byte("\x7fELF\x00\x00"), ""},
		"a route of no use":     {resum(nil), ""},
		"of another cluster":    {good, "another"},
		"zeros, as after a cut": {make([]byte, len(good)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			var log syncBuffer
			client := f.client(Config{Prefix: c.prefix})
			client.log = hclog.New(&hclog.LoggerOptions{Output: &log})
			w, stop := keeping(t, client, file)
			eventually(t, "Consul is asked", func() bool { return strings.Contains(log.String(), "consul is not read") })
			if !strings.Contains(log.String(), "is ignored") || w.View().Known {
				t.Errorf("known %v, and the log: %s", w.View().Known, log.String())
			}
			stop()
		})
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxSaved+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readSaved(file, DefaultPrefix); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("too long: %v", err)
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestADiskThatTakesNothingIsToldOnce(t *testing.T) {
	f, _ := full(t)
	var log syncBuffer
	client := f.client(Config{})
	client.log = hclog.New(&hclog.LoggerOptions{Output: &log})
	file := filepath.Join(t.TempDir(), "blocked")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k := &keeper{path: filepath.Join(file, "table"), log: client.log}
	for range 3 {
		k.write(&routes.View{})
	}
	if n := strings.Count(log.String(), "cannot be kept"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
	k.path = filepath.Join(t.TempDir(), "table")
	k.write(&routes.View{})
	if !strings.Contains(log.String(), "kept on disk again") {
		t.Error(log.String())
	}
	info, err := os.Stat(k.path)
	if err != nil {
		t.Fatal(err)
	}
	k.write(&routes.View{}) // nothing new
	if again, err := os.Stat(k.path); err != nil || !os.SameFile(info, again) {
		t.Errorf("written again: %v", err)
	}
	left, err := filepath.Glob(k.path + ".*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func FuzzDecodeSaved(f *testing.F) {
	data, err := encodeSaved(saved{Prefix: "p", Table: routes.Table{"search": route("search"), "shop": rolling("shop")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := decodeSaved(data, "p"); err == nil {
			if again, err := encodeSaved(s); err != nil {
				t.Fatalf("%q cannot be written again: %v, %q", data, err, again)
			}
		}
	})
}
