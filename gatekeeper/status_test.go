package gatekeeper

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Both sides count the same questions, and what came of them.
func TestWhatIsAskedIsCounted(t *testing.T) {
	k := keep(t, testConfig("keeper"), "127.0.0.1:0")
	defer k.close(t)
	g := New(testConfig("other"), hclog.NewNullLogger())
	defer g.Close()
	replica := Replica{ID: "r", Application: "app", Deployment: "main", Address: "127.0.0.1:1", Limit: 1}
	heard := make(events, 10)
	own, _ := k.g.Open(replica, k.address, 0, make(events, 10))
	line, _ := g.Open(replica, k.address, 0, heard)
	heard.expect(t, "found")
	line.Ask()
	heard.expect(t, "granted")
	if own.Take() {
		t.Error("there are two slots")
	}
	line.Release()
	eventually(t, "the slot is free", own.Take)
	line.Ask()
	heard.expect(t, "refused")
	g.Want("app", "main", 1, time.Now())
	eventually(t, "it is known", func() bool { _, contested := own.Way(); return contested })
	own.Release()
	heard.expect(t, "offered")
	here, there := k.g.Status(), g.Status()
	if want := (Counts{Asked: 2, Granted: 2, Refused: 1}); here.Served != want || there.Away != want {
		t.Errorf("asked by another: %+v here, %+v there", here.Served, there.Away)
	}
	if h := here.Here; h.Granted != 1 || h.Refused < 1 || h.Asked != h.Granted+h.Refused {
		t.Errorf("asked by its own proxy: %+v", h)
	}
	if here.Away != (Counts{}) || there.Here != (Counts{}) || there.Served != (Counts{}) {
		t.Errorf("asked by nobody: %+v, %+v, %+v", here.Away, there.Here, there.Served)
	}
}
