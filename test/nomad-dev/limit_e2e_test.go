//go:build e2e

package nomaddev_test

import (
	"strconv"
	"testing"
)

// TestLimitOverProxies has three proxies share the replicas, all busy at any
// time. No replica ever has more than it may have at once, by its own count: not
// when replicas come and go, nor when any of the proxies is killed, the one
// among them that hands out the slots.
func TestLimitOverProxies(t *testing.T) {
	s := startShop(t, 1, 3)
	s.deploy(0, "replicas=2", "timeout=60s")
	within := func(t *testing.T, c *crowd) {
		t.Helper()
		c.size(0)
		c.wantNoneLost(t)
		if c.most > 2 {
			t.Errorf("a replica had %d requests at once, and may have 2", c.most)
		}
		if c.most < 2 {
			t.Errorf("no replica ever had 2 requests: nothing was tested")
		}
	}

	t.Run("replicas come and go", func(t *testing.T) {
		c := s.startCrowd("/shop/item?sleep=20ms")
		c.size(12)
		c.answered(t, 200)
		for _, n := range []int{4, 1, 2} {
			if out, code := s.cli(0, "scale", "shop", "till", strconv.Itoa(n)); code != 0 {
				t.Fatalf("scale: %s", out)
			}
			s.healthy(n)
			c.answered(t, 200)
		}
		within(t, c)
	})

	t.Run("a new version takes over", func(t *testing.T) {
		c := s.startCrowd("/shop/item?sleep=20ms")
		c.size(12)
		c.answered(t, 200)
		s.deploy(0, "replicas=2", "timeout=60s", "version=v2")
		c.answered(t, 200)
		within(t, c)
	})

	t.Run("each proxy is killed in turn, and stopped", func(t *testing.T) {
		for i, p := range s.Proxies {
			c := s.startCrowd("/shop/item?sleep=20ms")
			c.avoid = p
			c.size(12)
			c.answered(t, 100)
			through := s.startCrowd("/shop/item?sleep=700ms") // of which some is lost: its proxy dies
			through.size(6)
			through.answered(t, 6)
			p.Kill()
			through.size(0)
			c.answered(t, 200)
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.answered(t, 100)
			if i == 0 {
				if err := p.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				c.answered(t, 100)
			}
			within(t, c)
			through.done.Wait()
			if through.most > 2 {
				t.Errorf("a replica had %d requests at once, and may have 2", through.most)
			}
		}
	})
}
