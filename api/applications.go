package api

import (
	"cmp"
	"slices"

	"github.com/serve-nomad/serve-nomad/raftstate"
	"github.com/serve-nomad/serve-nomad/reconcile"
)

func listApplications(c *call) error {
	return c.watch(func(v *View) (any, error) {
		list := reconcile.SummariseAll(v.State, v.World, c.server.cfg.Now(), c.server.cfg.Settings)
		pending := c.server.pending(v.State)
		for i := range list {
			tellPending(&list[i], pending)
		}
		return list, nil
	})
}

func readApplication(c *call) error {
	return c.watch(func(v *View) (any, error) {
		status, found := reconcile.Summarise(v.State, v.World, c.server.cfg.Now(), c.server.cfg.Settings, c.params["app"])
		if !found {
			return nil, c.noApplication()
		}
		tellPending(&status, c.server.pending(v.State))
		return status, nil
	})
}

func (c *call) noApplication() error {
	return fail(CodeNotFound, "no application %q", c.params["app"])
}

// readSpec is GET .../spec: the spec as it was deployed, of the newest version
// or of ?version=.
func readSpec(c *call) error {
	wanted, err := c.number("version")
	if err != nil {
		return err
	}
	return c.watch(func(v *View) (any, error) {
		app := v.State.Applications[c.params["app"]]
		if app == nil {
			return nil, c.noApplication()
		}
		if wanted == 0 {
			return app.Wanted.Spec, nil
		}
		for _, h := range versions(app) {
			if uint64(h.Version.Number) == wanted {
				return h.Version.Spec, nil
			}
		}
		return nil, fail(CodeNotFound, "application %q has no version %d, or it is too old to be remembered", app.Name, wanted)
	})
}

// readHistory is GET .../history: the versions, newest first.
func readHistory(c *call) error {
	return c.watch(func(v *View) (any, error) {
		app := v.State.Applications[c.params["app"]]
		if app == nil {
			return nil, c.noApplication()
		}
		list := []VersionInfo{}
		for _, h := range versions(app) {
			list = append(list, VersionInfo{
				Version: h.Version.Number, Rollout: h.Rollout,
				Serving: h.Version.Number == app.Serving.Number, Wanted: h.Version.Number == app.Wanted.Number,
				By: h.Version.By, Message: h.Version.Message, At: h.Version.At,
				Replicas: h.Version.Replicas, Hashes: h.Version.Hashes,
				Generation: h.Version.Generation, Leaving: leaving(app, h.Version.Number),
			})
		}
		return list, nil
	})
}

// leaving says why a version is on its way out; "": it is not.
func leaving(app *raftstate.Application, number int) raftstate.LeavingCause {
	for _, l := range app.Leaving {
		if l.Version.Number == number {
			return l.Cause
		}
	}
	return ""
}

// versions lists every version that is remembered, newest first. One that serves
// may be older than the history goes back, when many after it failed.
func versions(app *raftstate.Application) []raftstate.History {
	list := append(slices.Clone(app.History), raftstate.History{Version: app.Wanted, Rollout: app.Rollout})
	if !slices.ContainsFunc(list, func(h raftstate.History) bool { return h.Version.Number == app.Serving.Number }) {
		list = append(list, raftstate.History{Version: app.Serving, Rollout: raftstate.Rollout{Status: raftstate.RolloutSuccessful}})
	}
	slices.SortFunc(list, func(a, b raftstate.History) int { return cmp.Compare(b.Version.Number, a.Version.Number) })
	return list
}
