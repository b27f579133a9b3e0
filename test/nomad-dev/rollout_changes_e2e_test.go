//go:build e2e

package nomaddev_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/serve-nomad/serve-nomad/reconcile"
)

func changes() []scenario {
	return []scenario{
		{name: "a generation that was replaced finishes its streams, and then goes", run: drains},                                  // 5, deletion delay
		{name: "another user_config answers from the same replicas, told by a call", run: reconfigured("path = \"/reconfigure\"")}, // 6, in place
		{name: "another user_config answers from the same replicas, told by a signal", run: reconfigured("signal = \"SIGHUP\"")},   // 6
		{name: "a change of spec and graph is never seen in part", run: rewired("", false)},                                        // 7
		{name: "a change of spec and graph by rolling makes no generation", run: rewired(rolling, true)},                           // 8, strategy None
		{name: "who deletes and deploys again loses only what came between", run: suspended(false)},                                // 12
		{name: "who deletes in the middle of an upgrade and deploys again gets what he deployed", run: suspended(true)},            // 12, during upgrade
		{name: "replicas that were given a token take only calls that carry it, of any version", run: authorised},                  // 14
	}
}

// authorised gives replicas a token that is in Nomad alone, as a service that
// checks who calls it has one, and upgrades them. Clients' credentials are theirs
// to check: proxies hand them on.
func authorised(m *menu) {
	m.token = "token-of-" + m.name
	body := fmt.Sprintf(`{"Path":"nomad/jobs","Items":{%q:%q}}`, m.name, m.token)
	m.nomadDo(m.t, http.MethodPut, "/v1/var/nomad/jobs", body)
	a := edition{version: "v1", rollout: blueGreen}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	m.wantRefused()
	begun := m.deploy(b)
	m.figure.rollout = m.serves(120*time.Second, 2).Sub(begun)
	m.settles(60*time.Second, b, 2)
	m.wantRefused()
	m.finish()
	m.wantAnswers(a, b)
}

// wantRefused checks that a request without the token, and one with another, gets
// a replica's 401 at each proxy.
func (m *menu) wantRefused() {
	m.t.Helper()
	for _, url := range m.load.urls {
		for _, credentials := range []string{"", "Bearer another"} {
			req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, url+"/item", nil)
			if err != nil {
				m.t.Fatal(err)
			}
			if credentials != "" {
				req.Header.Set("Authorization", credentials)
			}
			resp, err := m.load.client.Do(req)
			if err != nil {
				m.t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil {
				m.t.Error(err)
			}
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("X-Serve-Error") != "" {
				m.t.Errorf("with credentials %q: %s %s", credentials, resp.Status, resp.Header.Get("X-Serve-Error"))
			}
		}
	}
}

// drains has streams of 10 s run in the old generation when the new one takes
// over.
func drains(m *menu) {
	m.phases.stream = 10 * time.Second
	a := edition{version: "v1", rollout: blueGreen}
	b := a.with(func(e *edition) { e.version = "v2" })
	m.begin(a)
	old := m.allocs()
	begun := m.deploy(b)
	m.figure.rollout = m.serves(60*time.Second, 2).Sub(begun)
	eventually(m.t, 90*time.Second, "the old generation goes", func() error {
		if left := common(old, m.allocs()); len(left) > 0 {
			return fmt.Errorf("%d replicas are left", len(left))
		}
		return nil
	})
	gone := time.Now()
	m.settles(30*time.Second, b, 2)
	m.finish()
	m.wantAnswers(a, b)
	last := m.load.answers[a.says()].last
	steps := m.route.weights(2)
	switched := steps[len(steps)-1].at
	m.figure.note = fmt.Sprintf("last stream ended %s after the switch, gone %s after that", ms(last.Sub(switched)), ms(gone.Sub(last)))
	if gone.Before(last) {
		m.t.Error("a replica was gone while its stream went on")
	}
	if took := gone.Sub(last); took > 20*time.Second {
		m.t.Errorf("the old generation goes %s after its last stream", took)
	}
}

// common returns what is in both lists.
func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(id string) bool { return !slices.Contains(b, id) })
}

// reconfigured changes what the replicas read while they run.
func reconfigured(how string) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", price: 3, more: "reconfigure {\n" + how + "\n}\n"}
		b := a.with(func(e *edition) { e.price = 4 })
		m.begin(a)
		before := m.allocs()
		begun := m.deploy(b)
		m.figure.rollout = m.serves(60*time.Second, 2).Sub(begun)
		m.load.goesOn(m.t, time.Second)
		m.load.priced(m.t, a.says(), 3, 4)
		m.settles(30*time.Second, b, 2)
		if after := m.allocs(); !slices.Equal(before, after) {
			m.t.Errorf("replicas %v became %v", before, after)
		}
		m.finish()
	}
}

// priced checks that these prices, and no others, were said by these versions.
func (l *traffic) priced(t *testing.T, versions string, want ...int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.answers[versions]
	if a == nil {
		t.Errorf("no answer by %q", versions)
		return
	}
	for _, price := range want {
		if a.prices[price] == 0 {
			t.Errorf("%q never said %d: %v", versions, price, a.prices)
		}
	}
	if len(a.prices) != len(want) {
		t.Errorf("%q said %v, and %v is what there was", versions, a.prices, want)
	}
}

// rewired changes what is called, and by which config, at once.
func rewired(rollout string, mixes bool) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", price: 3, rollout: rollout}
		b := a.with(func(e *edition) { e.version, e.price, e.calls = "v2", 456, []string{"kitchen"} })
		if rollout == "" {
			a.rollout, b.rollout = "bake_time = \"2s\"", "bake_time = \"2s\""
		}
		m.begin(a)
		begun := m.deploy(b)
		m.figure.rollout = m.serves(90*time.Second, 2).Sub(begun)
		m.settles(60*time.Second, b, 2)
		m.finish()
		m.wantAnswers(a, b)
		m.load.priced(m.t, a.says(), 3)
		m.load.priced(m.t, b.says(), 456)
		if n := len(m.route.generations()); (n == 1) != mixes {
			m.t.Errorf("generations: %v", m.route.generations())
		}
	}
}

// suspended deletes under load, and deploys again. What the old replicas still
// have to do they finish, and who they call is there: the new ones once they are.
func suspended(midway bool) func(m *menu) {
	return func(m *menu) {
		a := edition{version: "v1", rollout: canary}
		b := a.with(func(e *edition) { e.version = "v2" })
		m.begin(a)
		last := 2 // an application that is deployed while it still ends counts on
		if midway {
			last++
			m.deploy(b)
			m.comesTo(60*time.Second, "the new version takes requests", func(app reconcile.ApplicationStatus) bool { return app.Weight > 0 })
		}
		deleted := time.Now()
		if out, code := m.cli(m.alive(), "delete", "-detach", m.name); code != 0 {
			m.t.Fatal(out)
		}
		m.load.goesOn(m.t, time.Second)
		c := a.with(func(e *edition) { e.version = "v3" })
		m.deploy(c)
		m.load.says(m.t, 90*time.Second, c.version)
		back := m.load.begins(c.says())
		m.settles(90*time.Second, c, last)
		refused := m.load.take(func(l loss) bool {
			return l.status == 404 && (l.code == "no-route" || l.code == "gone") && l.ended.After(deleted) && l.sent.Before(back)
		})
		m.figure.excused = fmt.Sprintf(" (%d answered 404 while there was no route)", len(refused))
		m.finish()
	}
}

// begins returns when the first answer by these versions came.
func (l *traffic) begins(versions string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[versions].first
}
