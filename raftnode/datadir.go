package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// What a data directory holds, beside raft's own snapshots folder.
const (
	lockFile     = "lock"
	storeFile    = "raft.db"
	serverIDFile = "server-id" // written once raft.db is there: without it the first start did not get far
	memberFile   = "member"    // there once this server has held the cluster's log
)

// dataDir is an open data directory. Nobody else has it.
type dataDir struct {
	path      string
	serverID  string
	lock      *os.File
	store     *raftboltdb.BoltStore
	snapshots *raft.FileSnapshotStore
	hasState  bool // a log or a snapshot was there when it was opened
}

// openDataDir opens the directory, or makes it. A directory that has lost its
// log is refused: starting it empty under its old id would let it vote against
// what it once acknowledged.
func openDataDir(path string, logger hclog.Logger) (_ *dataDir, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDataDir, err)
	}
	d := &dataDir{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.lock, err = lockDir(filepath.Join(path, lockFile)); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrDataDir, path, err)
	}
	if d.serverID, err = d.readServerID(); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrDataDir, path, err)
	}
	if d.serverID != "" {
		if err := d.checkStoreIsThere(); err != nil {
			return nil, err
		}
	}
	if d.store, err = openStore(filepath.Join(path, storeFile)); err != nil {
		return nil, fmt.Errorf("%w %s: open %s: %w", ErrDataDir, path, storeFile, err)
	}
	if d.snapshots, err = raft.NewFileSnapshotStoreWithLogger(path, 2, logger.Named("snapshot")); err != nil {
		return nil, fmt.Errorf("%w %s: open snapshots: %w", ErrDataDir, path, err)
	}
	if d.hasState, err = raft.HasExistingState(d.store, d.store, d.snapshots); err != nil {
		return nil, fmt.Errorf("%w %s: read %s: %w", ErrDataDir, path, storeFile, err)
	}
	if err := d.checkState(); err != nil {
		return nil, err
	}
	return d, nil
}

// newIdentityAdvice ends every refusal: how to go on without losing a write.
const newIdentityAdvice = "if the other servers hold the cluster's state, move this directory away and start again: " +
	"the server then joins as a new one; if not, restore the directory from a backup"

func (d *dataDir) checkStoreIsThere() error {
	info, err := os.Stat(filepath.Join(d.path, storeFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w %s: it belongs to server %s, but its log %s is missing; %s",
			ErrDataDir, d.path, d.serverID, storeFile, newIdentityAdvice)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDataDir, err)
	case info.Size() == 0:
		return fmt.Errorf("%w %s: it belongs to server %s, but its log %s is empty; %s",
			ErrDataDir, d.path, d.serverID, storeFile, newIdentityAdvice)
	}
	return nil
}

// checkState compares what the log holds with what this directory remembers
// to have been, and gives a new directory its id.
func (d *dataDir) checkState() error {
	if d.serverID == "" {
		if d.hasState {
			return fmt.Errorf("%w %s: it holds a log, but its %s is missing; %s",
				ErrDataDir, d.path, serverIDFile, newIdentityAdvice)
		}
		d.serverID = uuid.NewString()
		if err := writeFileSync(filepath.Join(d.path, serverIDFile), d.serverID+"\n"); err != nil {
			return fmt.Errorf("%w: %w", ErrDataDir, err)
		}
		return nil
	}
	if d.hasState {
		return nil
	}
	_, err := os.Stat(filepath.Join(d.path, memberFile))
	switch {
	case err == nil:
		return fmt.Errorf("%w %s: server %s was a member of a cluster, but its log %s holds nothing; %s",
			ErrDataDir, d.path, d.serverID, storeFile, newIdentityAdvice)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("%w: %w", ErrDataDir, err)
	}
}

// markMember remembers that this server holds the cluster's log from now on.
func (d *dataDir) markMember() error {
	path := filepath.Join(d.path, memberFile)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return writeFileSync(path, "the log in "+storeFile+" is part of a cluster\n")
}

func (d *dataDir) readServerID() (string, error) {
	data, err := os.ReadFile(filepath.Join(d.path, serverIDFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	id, err := uuid.Parse(strings.TrimSpace(string(data)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", serverIDFile, err)
	}
	return id.String(), nil
}

func (d *dataDir) close() error {
	var err error
	if d.store != nil {
		err = d.store.Close()
	}
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

func openStore(path string) (_ *raftboltdb.BoltStore, err error) {
	defer caught(&err)()
	return raftboltdb.New(raftboltdb.Options{
		Path: path,
		// The freelist grows with every burst and would be written with each
		// entry; it can be found again at start.
		BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
}

// caught makes an error of a panic, also of the memory fault that a truncated
// log file gives when it is read. Use: defer caught(&err)().
func caught(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = fmt.Errorf("it is damaged: %v; %s", p, newIdentityAdvice)
		}
	}
}

// writeFileSync writes a small file so that a crash leaves all of it or none.
func writeFileSync(path, content string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = tmp.WriteString(content)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
