package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/tidwall/gjson"
)

// readers is how many replicas of a deployment are asked at once. One that
// hangs takes a place until the time is up.
const readers = 64

// ErrNoReplica says that there is nobody to ask.
var ErrNoReplica = errors.New("no replica passes its health check, so there is none to ask")

// Replicas returns the sum over all replicas of the number at field (a path in
// gjson's syntax) of the JSON that each answers at path (such as
// "/metrics.json"). An address is host:port. When some do not say, and at least
// half do, the sum is what it would be if the others said the same on average;
// else there is no number. It takes as long as ctx lets it.
func (c *Client) Replicas(ctx context.Context, addresses []string, path, field string) (float64, error) {
	if len(addresses) == 0 {
		return 0, ErrNoReplica
	}
	var mu sync.Mutex
	var sum float64
	var first error
	answered := 0
	todo := make(chan string)
	var asking sync.WaitGroup
	for range min(readers, len(addresses)) {
		asking.Go(func() {
			for address := range todo {
				value, err := c.replica(ctx, address, path, field)
				mu.Lock()
				switch {
				case err == nil:
					sum += value
					answered++
				case first == nil:
					first = fmt.Errorf("replica at %s: %w", address, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, address := range addresses {
		todo <- address
	}
	close(todo)
	asking.Wait()
	if 2*answered < len(addresses) {
		return 0, fmt.Errorf("%d of %d replicas say nothing usable: %w", len(addresses)-answered, len(addresses), first)
	}
	return usable(sum / float64(answered) * float64(len(addresses)))
}

// replica asks one.
func (c *Client) replica(ctx context.Context, address, path, field string) (float64, error) {
	target, err := url.Parse("http://" + address + "/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "serve-nomad-metrics")
	response, err := c.replicas.Do(request)
	if err != nil {
		return 0, readable(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s was answered with %s", shown(path), shown(response.Status))
	}
	body, err := io.ReadAll(response.Body)
	if errors.Is(err, errTooLong) {
		return 0, fmt.Errorf("GET %s was answered with more than %d KiB", shown(path), maxReplicaAnswer>>10)
	}
	if err != nil {
		return 0, readable(ctx, err)
	}
	return numberAt(body, field)
}

// numberAt returns the number at field of a JSON text.
func numberAt(body []byte, field string) (float64, error) {
	if !gjson.ValidBytes(body) {
		return 0, fmt.Errorf("the answer is not JSON: %q", shown(string(body[:min(len(body), 80)])))
	}
	found := gjson.GetBytes(body, field)
	switch {
	case !found.Exists():
		return 0, fmt.Errorf("the answer has no field %q", shown(field))
	case found.Type != gjson.Number:
		return 0, fmt.Errorf("field %q of the answer is not a number but %s", shown(field), shown(found.Raw))
	}
	return usable(found.Num)
}
