package fairqueue

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// served pushes what the words say, as class:key, and returns the order in
// which n of them are served, by the place of each in words.
func served(q *Queue[int], n int, words ...string) []int {
	for i, word := range words {
		class, key, _ := strings.Cut(word, ":")
		it := &Item[int]{Value: i, Order: uint64(i), Key: key}
		switch class {
		case "high":
			it.Class = High
		case "low":
			it.Class = Low
		}
		q.Push(it)
	}
	var got []int
	for range n {
		got = append(got, q.Pop().Value)
	}
	return got
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		words []string
		want  []int
	}{
		{"is that of arrival where nobody says more", []string{"", "", "", ""}, []int{0, 1, 2, 3}},
		{"is that of arrival within a key", []string{":a", ":a", ":a"}, []int{0, 1, 2}},
		{"alternates between keys", []string{":a", ":a", ":a", ":b", ":b", ""}, []int{0, 3, 5, 1, 4, 2}},
		{"puts the higher class first", []string{"low", "", "high"}, []int{2, 1, 0}},
		{"does not starve a lower class", strings.Fields(strings.Repeat("high ", 20) + "normal"), []int{0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var q Queue[int]
			if diff := cmp.Diff(tt.want, served(&q, len(tt.words), tt.words...)); diff != "" {
				t.Error(diff)
			}
			if q.Pop() != nil || q.First() != nil || q.Len() != 0 || q.Bytes() != 0 {
				t.Error("something is left")
			}
		})
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	var q Queue[int]
	var words []string
	for range 300 {
		words = append(words, "high", "", "low")
	}
	counts := map[int]int{}
	for _, i := range served(&q, 210, words...) {
		counts[i%3]++
	}
	if diff := cmp.Diff(map[int]int{0: 160, 1: 40, 2: 10}, counts); diff != "" {
		t.Errorf("of high, normal and low: %s", diff)
	}
}

// TestNoArrears has a class come that had nobody waiting while others were
// served: it is owed nothing for that time.
func TestNoArrears(t *testing.T) {
	t.Parallel()
	var q Queue[int]
	var words []string
	for range 101 {
		words = append(words, "")
	}
	served(&q, 100, words...)
	words = nil
	for range 50 {
		words = append(words, "low", "")
	}
	low := 0
	for _, i := range served(&q, 50, words...) {
		low += 1 - i%2
	}
	if low < 9 || low > 11 {
		t.Errorf("of 50 served %d are low", low)
	}
}

func TestBack(t *testing.T) {
	t.Parallel()
	var q Queue[int]
	if diff := cmp.Diff([]int{0, 1, 2}, served(&q, 3, ":a", ":b", ":c", "high:a", ":b")[:3]); diff == "" {
		t.Fatal("the higher class was not first")
	}
	for _, i := range []int{2, 0, 1} {
		q.Push(&Item[int]{Value: i, Order: uint64(i), Class: Low, Back: true})
	}
	for want := range 3 {
		if got := q.Pop().Value; got != want {
			t.Errorf("%d came back before %d", got, want)
		}
	}
}

// TestOneAtATime has one key send its next request as soon as the last one is
// served, against one that has many waiting: neither gets more.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	var q Queue[string]
	for i := range 100 {
		q.Push(&Item[string]{Value: "many", Key: "many", Order: uint64(i)})
	}
	counts := map[string]int{}
	for i := range 50 {
		if i == 0 || !slices.ContainsFunc(keysOf(&q), func(k string) bool { return k == "one" }) {
			q.Push(&Item[string]{Value: "one", Key: "one", Order: uint64(1000 + i)})
		}
		counts[q.Pop().Value]++
	}
	if counts["one"] != 25 {
		t.Errorf("served %v", counts)
	}
}

func keysOf(q *Queue[string]) (keys []string) {
	for _, f := range q.classes[Normal].flows {
		keys = append(keys, f.key)
	}
	return keys
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var q Queue[int]
	q.Push(&Item[int]{Bytes: 60})
	for _, tt := range []struct {
		bytes  int64
		limits Limits
		want   Fullness
	}{
		{40, Limits{Items: 2, Bytes: 100}, Room},
		{41, Limits{Items: 2, Bytes: 100}, TooLarge},
		{0, Limits{Items: 1, Bytes: 100}, TooMany},
		{0, Limits{Items: 0}, TooMany},
		{1 << 40, Limits{Items: -1}, Room},
	} {
		if got := q.Fits(tt.bytes, tt.limits); got != tt.want {
			t.Errorf("%d bytes, %+v: %v, want %v", tt.bytes, tt.limits, got, tt.want)
		}
	}
}

// TestManyKeys has more keys than are told apart, and none stay behind.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	var q Queue[int]
	var items []*Item[int]
	for i := range 3 * maxKeys {
		it := &Item[int]{Value: i, Order: uint64(i), Key: fmt.Sprint("k", i)}
		items = append(items, it)
		q.Push(it)
	}
	c := &q.classes[Normal]
	if len(c.keyed) != maxKeys {
		t.Errorf("%d keys are told apart", len(c.keyed))
	}
	for i, it := range items {
		if i%2 == 0 {
			q.Remove(it)
		}
	}
	for q.Pop() != nil {
	}
	if len(c.keyed) != 0 || len(c.flows) != 0 || len(c.idle) != 0 {
		t.Errorf("%d keys, %d flows and %d idle ones are left", len(c.keyed), len(c.flows), len(c.idle))
	}
}

// TestLaws holds a queue, after every step at random, to what it promises.
func TestLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[int]
		var waiting []*Item[int]
		order := uint64(0)
		ahead := map[[2]string]int{} // services of the first key less those of the second, since both wait
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				order++
				it := &Item[int]{
					Order: order, Bytes: int64(rapid.IntRange(0, 9).Draw(t, "bytes")),
					Key:   rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "key"),
					Class: Class(rapid.IntRange(0, 2).Draw(t, "class")),
				}
				q.Push(it)
				waiting = append(waiting, it)
			case 2:
				if len(waiting) > 0 {
					i := rapid.IntRange(0, len(waiting)-1).Draw(t, "removed")
					q.Remove(waiting[i])
					waiting = slices.Delete(waiting, i, i+1)
				}
			default:
				first, it := q.First(), q.Pop()
				if first != it || (it == nil) != (len(waiting) == 0) {
					t.Fatalf("%d wait, first %v, served %v", len(waiting), first, it)
				}
				if it == nil {
					break
				}
				waiting = slices.DeleteFunc(waiting, func(other *Item[int]) bool { return other == it })
				checkServed(t, it, waiting, ahead)
			}
			checkSums(t, &q, waiting)
			forgetPairs(waiting, ahead)
		}
	})
}

func checkServed(t *rapid.T, it *Item[int], waiting []*Item[int], ahead map[[2]string]int) {
	others := map[string]bool{}
	for _, other := range waiting {
		if other.Class != it.Class {
			continue
		}
		if other.Key == it.Key && other.Order < it.Order {
			t.Fatalf("%d of key %q was served before %d", it.Order, it.Key, other.Order)
		}
		others[other.Key] = true
	}
	class := fmt.Sprint(it.Class)
	for key := range others {
		if key == it.Key {
			continue
		}
		mine, its := class+it.Key, class+key
		ahead[[2]string{mine, its}]++
		ahead[[2]string{its, mine}]--
		if n := ahead[[2]string{mine, its}]; n > 1 {
			t.Fatalf("key %q got %d more than %q, which waited all the time", it.Key, n, key)
		}
	}
}

// forgetPairs begins anew where a key has nobody waiting any more.
func forgetPairs(waiting []*Item[int], ahead map[[2]string]int) {
	here := map[string]bool{}
	for _, it := range waiting {
		here[fmt.Sprint(it.Class)+it.Key] = true
	}
	for pair := range ahead {
		if !here[pair[0]] || !here[pair[1]] {
			delete(ahead, pair)
		}
	}
}

func checkSums(t *rapid.T, q *Queue[int], waiting []*Item[int]) {
	bytes := int64(0)
	for _, it := range waiting {
		bytes += it.Bytes
		if !it.Queued() {
			t.Fatalf("%d is not queued", it.Order)
		}
	}
	if q.Len() != len(waiting) || q.Bytes() != bytes {
		t.Fatalf("length %d, bytes %d; want %d, %d", q.Len(), q.Bytes(), len(waiting), bytes)
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, keys := range []int{0, 1, 100} {
		b.Run(fmt.Sprintf("1000 waiting of %d keys", keys), func(b *testing.B) {
			var q Queue[int]
			items := make([]Item[int], 1001)
			for i := range items {
				items[i].Order = uint64(i)
				if keys > 0 {
					items[i].Key = fmt.Sprint("k", i%keys)
				}
				q.Push(&items[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				q.Push(q.Pop())
			}
		})
	}
}
