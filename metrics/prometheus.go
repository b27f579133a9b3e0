package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// Query returns the number that a PromQL query gives now, as Number does, if a
// deployment can be sized by it.
func (c *Client) Query(ctx context.Context, query string) (float64, error) {
	value, err := c.Number(ctx, query)
	if err != nil {
		return 0, err
	}
	return usable(value)
}

// Number returns the number that a PromQL query gives now: a scalar, or a vector
// of exactly one element, and finite. It takes as long as ctx lets it.
func (c *Client) Number(ctx context.Context, query string) (float64, error) {
	if c.prometheus == nil {
		return 0, ErrNoPrometheus
	}
	value, warnings, err := c.prometheus.Query(ctx, query, time.Time{})
	if err != nil {
		return 0, fmt.Errorf("ask prometheus at %s: %w", c.address, readable(ctx, err))
	}
	for _, w := range warnings {
		// PromQL's own are about the query. The others say that a part of what
		// was asked for is missing, and a part taken for the whole would take
		// replicas away.
		if !strings.HasPrefix(w, "PromQL ") {
			return 0, fmt.Errorf("ask prometheus at %s: it warns: %s", c.address, shown(w))
		}
	}
	number, err := single(value)
	if err != nil {
		return 0, fmt.Errorf("ask prometheus at %s: %w", c.address, err)
	}
	return finite(number)
}

// single returns the one number that there is.
func single(value model.Value) (float64, error) {
	switch v := value.(type) {
	case *model.Scalar:
		return float64(v.Value), nil
	case model.Vector:
		switch {
		case len(v) == 0:
			return 0, errors.New("the query found nothing: it must give one number")
		case len(v) > 1:
			return 0, fmt.Errorf("the query found %d series, the first is %s: it must give one number, as sum(...) does", len(v), shown(v[0].Metric.String()))
		case v[0] == nil || v[0].Histogram == nil && v[0].Timestamp == 0: // which would read as 0
			return 0, errors.New("the answer has an element without a value")
		case v[0].Histogram != nil:
			return 0, errors.New("the query gave a histogram: it must give one number")
		}
		return float64(v[0].Value), nil
	default:
		return 0, fmt.Errorf("the query gave a %s: it must give one number, of one moment", value.Type())
	}
}

// readable takes out of an error what says nothing to a person.
func readable(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("no answer within the block's timeout")
	}
	if answer, ok := errors.AsType[*prometheusv1.Error](err); ok {
		return fmt.Errorf("%s: %s", answer.Type, shown(answer.Msg))
	}
	if call, ok := errors.AsType[*url.Error](err); ok {
		return call.Err // the address is named already
	}
	return err
}

// shown is some of a text that came from elsewhere.
func shown(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return text
}
