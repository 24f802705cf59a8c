package bounded_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// take acquires one at a time until refused, and returns how many were granted and
// why no more.
func take(s *bounded.Shares, source string) (granted int, why bounded.Refusal) {
	for {
		if why = s.Acquire(source, 1); why != bounded.Granted {
			return granted, why
		}
		granted++
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	t.Run("one source gets half, and the next ones what is fair", func(t *testing.T) {
		s := bounded.NewShares(120)
		if n, why := take(s, "a"); n != 60 || why != bounded.OverShare {
			t.Errorf("the first got %d, then %v", n, why)
		}
		if n, why := take(s, "b"); n != 30 || why != bounded.OverShare {
			t.Errorf("the second got %d, then %v", n, why)
		}
		if s.Acquire("c", 1) != bounded.Granted {
			t.Error("nothing was left for a third")
		}
		for range 60 {
			s.Release("a", 1)
		}
		if s.Held() != 31 {
			t.Errorf("%d are held", s.Held())
		}
	})
	t.Run("two greedy sources settle at a third each", func(t *testing.T) {
		s := bounded.NewShares(120)
		for range 1000 { // in turns
			s.Acquire("a", 1)
			s.Acquire("b", 1)
		}
		if s.Held() != 80 {
			t.Errorf("together they hold %d", s.Held())
		}
	})
	t.Run("what is large is weighed", func(t *testing.T) {
		s := bounded.NewShares(100)
		if s.Acquire("a", 101) != bounded.Exhausted || s.Acquire("a", 50) != bounded.Granted || s.Acquire("a", 1) != bounded.OverShare || s.Acquire("b", 51) != bounded.Exhausted || s.Acquire("b", 50) != bounded.Granted {
			t.Error("granted otherwise")
		}
		if s.Acquire("c", 1) != bounded.Exhausted {
			t.Error("more was granted than there is")
		}
	})
	t.Run("never more than there is, whoever asks at once", func(t *testing.T) {
		s := bounded.NewShares(10)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				source := fmt.Sprint(i % 7)
				for range 1000 {
					if s.Acquire(source, 1) != bounded.Granted {
						continue
					}
					if s.Held() > 10 {
						t.Error("more is held than there is")
					}
					s.Release(source, 1)
				}
			})
		}
		wg.Wait()
		if s.Held() != 0 {
			t.Errorf("%d are held in the end", s.Held())
		}
	})
}

func TestSource(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"10.1.2.3:4567":              "10.1.2.3",
		"[::ffff:10.1.2.3]:80":       "10.1.2.3",
		"[2001:db8:1:2:3::4]:80":     "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:443": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80":          "fe80::/64",
		"@":                          "@",
	} {
		if got := bounded.Source(remote); got != want {
			t.Errorf("%s: got %s, want %s", remote, got, want)
		}
	}
}
