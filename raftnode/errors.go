package raftnode

import "errors"

var (
	// ErrNotLeader says that this server does not lead; nothing was done.
	ErrNotLeader = errors.New("this server does not lead the cluster")

	// ErrNoLeader says that no leader is known; nothing was sent.
	ErrNoLeader = errors.New("the cluster has no leader now")

	// ErrUnknownOutcome says that a command may or may not have been applied.
	// Send it again with the same ID to find out: it is applied once.
	ErrUnknownOutcome = errors.New("it is not known whether the command was applied")

	// ErrTooLarge says that a command is larger than the log takes.
	ErrTooLarge = errors.New("the command is too large")

	// ErrBusy says that the log did not take the command in time; nothing was done.
	ErrBusy = errors.New("the log takes no more commands now")

	// ErrStopped says that this server is shutting down; nothing was done.
	ErrStopped = errors.New("this server is shutting down")

	// ErrDataDir says that the data directory is not fit to start from.
	ErrDataDir = errors.New("data directory")
)
