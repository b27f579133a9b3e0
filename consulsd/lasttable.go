package consulsd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/serve-nomad/serve-nomad/routes"
)

// Pace and bounds of the file with the last table.
const (
	recallAfter = time.Second     // that Consul has to answer before the file is served by
	saveEvery   = 2 * time.Second // at most
	maxSaved    = 64 << 20        // bytes of the file
)

// savedHead is how the file begins; a checksum of what follows, and a line's end,
// come after it.
const savedHead = "serve-nomad table 1 "

// saved is the last good view, as it lies on disk.
type saved struct {
	At          time.Time           `json:"at"`
	Prefix      string              `json:"prefix"` // of the keys in Consul KV: another one is another cluster
	Table       routes.Table        `json:"table"`
	Endpoints   []routes.Endpoint   `json:"endpoints"`
	Gatekeepers []routes.Gatekeeper `json:"gatekeepers,omitempty"`
}

// encodeSaved returns what the file holds.
func encodeSaved(s saved) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	data := slices.Concat([]byte(savedHead), []byte(hex.EncodeToString(sum[:])), []byte{'\n'}, body)
	if len(data) > maxSaved {
		return nil, fmt.Errorf("the table has %d bytes, over %d", len(data), maxSaved)
	}
	return data, nil
}

// decodeSaved reads that back, and refuses whatever could not be served by.
func decodeSaved(data []byte, prefix string) (saved, error) {
	var s saved
	head, body, _ := bytes.Cut(data, []byte{'\n'})
	sum, ok := strings.CutPrefix(string(head), savedHead)
	if !ok {
		return s, errors.New("it does not begin as a table of this version")
	}
	if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != sum {
		return s, errors.New("its checksum is not that of what it holds")
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("not a table in JSON: %w", err)
	}
	if s.Prefix != prefix {
		return s, fmt.Errorf("it is of the keys %q in Consul, and not of %q", clip(s.Prefix), prefix)
	}
	for _, application := range slices.Sorted(maps.Keys(s.Table)) {
		if err := checkRoute(application, s.Table[application]); err != nil {
			return s, fmt.Errorf("route of %q: %w", clip(application), err)
		}
	}
	return s, nil
}

// readSaved reads the file. One that is not there is no error, and holds nothing.
func readSaved(path, prefix string) (*saved, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSaved+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSaved {
		return nil, fmt.Errorf("it is longer than %d bytes", maxSaved)
	}
	s, err := decodeSaved(data, prefix)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// writeSaved puts data in the place of the file, so that after a crash at any
// moment the file holds one or the other.
func writeSaved(path string, data []byte) (err error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what is left of it is of no use
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// keeper writes views to the file, the latest one of each while.
type keeper struct {
	path, prefix string
	log          hclog.Logger
	next         chan *routes.View // of capacity 1
	written      [sha256.Size]byte // of what was written last, but for its time
	failing      bool              // as logged
}

// KeepIn has the last good view kept in a file. A Watcher whose Consul does not
// answer when it begins shows what lies there, with an Error, until Consul does.
// It is called before Run.
func (w *Watcher) KeepIn(path string, client *Client) {
	w.keeper = &keeper{path: path, prefix: client.prefix, log: w.log, next: make(chan *routes.View, 1)}
}

// keep has a view written soon. It never waits.
func (k *keeper) keep(view *routes.View) {
	select {
	case <-k.next: // the older one
	default:
	}
	k.next <- view
}

// run writes until ctx ends, and then what is left. What could not be written is
// tried again, for the disk may be full no more while nothing else changes.
func (k *keeper) run(ctx context.Context) {
	var left *routes.View
	for ctx.Err() == nil {
		var again <-chan time.Time
		if left != nil {
			again = time.After(saveEvery)
		}
		select {
		case left = <-k.next:
		case <-again:
		case <-ctx.Done():
			continue
		}
		if k.write(left) {
			left = nil
		}
		sleep(ctx, saveEvery)
	}
	select {
	case left = <-k.next:
	default:
	}
	if left != nil {
		k.write(left)
	}
}

// write says whether the view is written, or too large ever to be.
func (k *keeper) write(view *routes.View) bool {
	s := saved{Prefix: k.prefix, Table: view.Table, Endpoints: view.Endpoints, Gatekeepers: view.Gatekeepers}
	data, err := encodeSaved(s)
	sum := sha256.Sum256(data)
	if err == nil && sum == k.written {
		return true
	}
	s.At = time.Now().UTC().Truncate(time.Second)
	if err == nil {
		data, err = encodeSaved(s)
	}
	hopeless := err != nil
	if err == nil {
		if err = writeSaved(k.path, data); err == nil {
			k.written = sum
		}
	}
	switch {
	case err != nil && !k.failing:
		k.log.Warn("the routing table cannot be kept on disk; a start without Consul will not know it", "file", k.path, "error", err)
	case err == nil && k.failing:
		k.log.Info("the routing table is kept on disk again", "file", k.path)
	}
	k.failing = err != nil
	return err == nil || hopeless
}

// recall puts what lies on disk in the place of what Consul has not said yet, as
// if Consul had said it before. Nobody is shown it until remember.
func (r *run) recall(ctx context.Context) {
	if r.keeper == nil {
		return
	}
	s, err := readSaved(r.keeper.path, r.keeper.prefix)
	if err != nil {
		r.log.Error("the routing table on disk is of no use, and is ignored", "file", r.keeper.path, "error", err)
	}
	if s == nil {
		return
	}
	r.recalled = s
	for application, route := range s.Table {
		r.table.good[application] = goodEntry{route: route}
	}
	if r.keepers != nil {
		r.keepers.last = s.Gatekeepers
	}
	r.follow(ctx)
}

// replicas returns what lies on disk of a service's replicas.
func (s *saved) replicas(of owners) []instance {
	if s == nil {
		return nil
	}
	var list []instance
	for _, e := range s.Endpoints {
		if of[owner{e.Application, e.Deployment}] {
			list = append(list, instance{id: "saved/" + clip(e.Replica), endpoint: e})
		}
	}
	return list
}

// remember shows what lies on disk, because Consul does not answer.
func (r *run) remember() {
	if r.recalled == nil || r.known {
		return
	}
	r.known = true
	if r.read {
		return // the routes are Consul's, and so will be the replicas
	}
	r.log.Warn("consul does not answer: routes and replicas are those that lie on disk", "file", r.keeper.path, "changed", r.recalled.At,
		"routes", len(r.recalled.Table), "endpoints", len(r.recalled.Endpoints))
}

// age says that what is shown lies on disk; "": Consul has said it.
func (r *run) age() string {
	if r.recalled == nil || r.read {
		return ""
	}
	return fmt.Sprintf("; what is shown lay on disk, and had last changed at %s", r.recalled.At.Format(time.RFC3339))
}

// startKeeping has the file written in the background, until ctx ends.
func (r *run) startKeeping(ctx context.Context, parts *sync.WaitGroup) {
	if r.keeper != nil {
		parts.Go(func() { r.keeper.run(ctx) })
	}
}
