package nomadjobs

import (
	"context"
	"errors"
	"maps"
	"sync"
)

// readers is how much is read at once. A new leader reads every job and every
// node, one call each, and thousands in a row would take longer than a look may.
const readers = 16

// cache keeps what was read one call each, by id, with the index that it was
// read at.
type cache[T any] struct {
	mu    sync.Mutex
	known map[string]indexed[T]
}

type indexed[T any] struct {
	value T
	index uint64
}

// read returns what is listed, by id, fetching what is not known at the index
// that the list has. What is gone by now is left out. What was fetched is
// remembered even when another could not be, so that the next look goes on
// where this one stopped.
func (c *cache[T]) read(ctx context.Context, listed map[string]uint64, fetch func(context.Context, string) (T, uint64, error)) (map[string]T, error) {
	c.mu.Lock()
	known := c.known
	c.mu.Unlock()
	now := make(map[string]indexed[T], len(listed))
	var changed []string
	for id, index := range listed {
		if old, ok := known[id]; ok && old.index == index {
			now[id] = old
			continue
		}
		changed = append(changed, id)
	}
	fetched, err := fetchAll(ctx, changed, fetch)
	maps.Copy(now, fetched)
	c.mu.Lock()
	c.known = now
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	values := make(map[string]T, len(now))
	for id, v := range now {
		values[id] = v.value
	}
	return values, nil
}

// fetchAll fetches ids, some at once, until one cannot be.
func fetchAll[T any](ctx context.Context, ids []string, fetch func(context.Context, string) (T, uint64, error)) (map[string]indexed[T], error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	fetched := map[string]indexed[T]{}
	var reading sync.WaitGroup
	turns := make(chan struct{}, readers)
	for _, id := range ids {
		turns <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		reading.Go(func() {
			defer func() { <-turns }()
			value, index, err := fetch(ctx, id)
			switch {
			case errors.Is(err, ErrNotFound):
			case err != nil:
				cancel(err)
			default:
				mu.Lock()
				defer mu.Unlock()
				fetched[id] = indexed[T]{value, index}
			}
		})
	}
	reading.Wait()
	return fetched, context.Cause(ctx)
}

// atOnce calls all of them at the same time and returns the first error; the
// others are then called off.
func atOnce(ctx context.Context, calls ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for _, call := range calls {
		running.Go(func() {
			if err := call(ctx); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
