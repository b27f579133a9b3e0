package raftstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// SnapshotVersion is the version of the snapshot format that this code writes.
const SnapshotVersion = 1

// maxSnapshotBytes bounds what DecodeSnapshot reads: far above any State that
// Apply's own bounds allow, and low enough not to end the process.
const maxSnapshotBytes = 512 << 20

// snapshot is the file format: one JSON object.
type snapshot struct {
	V     int    `json:"v"`
	State *State `json:"state"`
}

// EncodeSnapshot writes s. The same State always gives the same bytes.
func EncodeSnapshot(w io.Writer, s *State) error {
	if err := json.NewEncoder(w).Encode(snapshot{V: SnapshotVersion, State: s}); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

// DecodeSnapshot reads what EncodeSnapshot wrote, and nothing else.
func DecodeSnapshot(r io.Reader) (*State, error) {
	return decodeSnapshot(r, maxSnapshotBytes)
}

func decodeSnapshot(r io.Reader, limit int64) (*State, error) {
	bounded := &io.LimitedReader{R: r, N: limit + 1}
	dec := json.NewDecoder(bounded)
	var snap snapshot
	err := dec.Decode(&snap)
	if err == nil {
		err = atEnd(dec)
	}
	switch {
	case bounded.N <= 0:
		return nil, fmt.Errorf("decode snapshot: larger than %d bytes", limit)
	case err != nil:
		return nil, fmt.Errorf("decode snapshot: %w", err)
	case snap.V != SnapshotVersion:
		return nil, fmt.Errorf("decode snapshot: version %d is not known here (this server writes %d)", snap.V, SnapshotVersion)
	case snap.State == nil:
		return nil, errors.New("decode snapshot: it holds no state")
	}
	if err := snap.State.sound(); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	return snap.State, nil
}

func atEnd(dec *json.Decoder) error {
	_, err := dec.Token()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	default:
		return errors.New("something follows the state")
	}
}

// sound refuses a State that Apply never makes and would stumble over.
func (s *State) sound() error {
	for name, app := range s.Applications {
		switch {
		case app == nil || app.Name != name:
			return fmt.Errorf("application %q is not what its key says", name)
		case !app.Serving.sound() || !app.Wanted.sound():
			return fmt.Errorf("application %q lacks a version", name)
		}
		for _, h := range app.History {
			if !h.Version.sound() {
				return fmt.Errorf("application %q lacks a version in its history", name)
			}
		}
		for _, l := range app.Leaving {
			if !l.Version.sound() {
				return fmt.Errorf("application %q lacks a version that leaves", name)
			}
		}
		if app.Serving.Number == app.Wanted.Number {
			app.Serving = app.Wanted
		}
	}
	return s.soundNodes()
}

func (s *State) soundNodes() error {
	for name, group := range s.WorkerGroups {
		if group == nil || group.Name != name || group.Spec == nil || group.Spec.Name != name {
			return fmt.Errorf("worker group %q is not what its key says", name)
		}
		if refusal := soundGroup(group.Spec); refusal != nil {
			return refusal
		}
		for _, f := range group.Former {
			if f.Spec == nil {
				return fmt.Errorf("worker group %q lacks an earlier shape", name)
			}
		}
	}
	for id, node := range s.Nodes {
		switch {
		case node == nil || node.ID != id:
			return fmt.Errorf("node %q is not what its key says", id)
		case s.WorkerGroups[node.Group] == nil:
			return fmt.Errorf("node %q is of worker group %q, which there is not", id, node.Group)
		case !node.Phase.held() && node.Phase != NodeTerminating:
			return fmt.Errorf("node %q is in phase %q, which there is not", id, node.Phase)
		}
	}
	return nil
}

func (v *Version) sound() bool {
	if v == nil || v.Spec == nil {
		return false
	}
	for _, d := range v.Spec.Deployments {
		if d == nil {
			return false
		}
	}
	return true
}
