package placement

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/ident"
)

func slotsOf(text string) []ident.Slot {
	var out []ident.Slot
	for word := range strings.FieldsSeq(text) {
		w, i, _ := strings.Cut(word, "#")
		out = append(out, ident.Slot{Worker: ident.WorkerID(w), Index: int(i[0] - '0')})
	}
	return out
}

func workersOf(text string) []ident.WorkerID {
	var out []ident.WorkerID
	for word := range strings.FieldsSeq(text) {
		out = append(out, ident.WorkerID(word))
	}
	return out
}

func TestOrder(t *testing.T) {
	cases := []struct{ name, granted, previous, want string }{
		{"nothing", "", "", ""},
		{"a first deployment goes over the workers in turn", "a#0 a#1 b#0 b#1", "", "a#0 b#0 a#1 b#1"},
		{"the order of the grant does not matter", "b#1 a#1 b#0 a#0", "", "a#0 b#0 a#1 b#1"},
		{"everything stays", "a#0 a#1 b#0 b#1", "b a a b", "b#0 a#0 a#1 b#1"},
		{"only what was on the lost worker moves", "a#2 a#3 c#0 c#1", "a b a b", "a#2 c#0 a#3 c#1"},
		{"one worker is left", "a#0 a#1 a#2 a#3", "a b a b", "a#0 a#2 a#1 a#3"},
		{"the job has grown", "a#0 b#0 c#0", "b", "b#0 a#0 c#0"},
		{"the job has shrunk", "a#0 b#0", "b c a b", "b#0 a#0"},
		{"unequal workers", "a#0 b#0 b#1 b#2", "", "a#0 b#0 b#1 b#2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Order(slotsOf(c.granted), workersOf(c.previous)); !slices.Equal(got, slotsOf(c.want)) {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

// TestOrderKeepsAsManyAsItCan checks random grants: the order is a permutation, and no position could stay
// that did not.
func TestOrderKeepsAsManyAsItCan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var granted []ident.Slot
		var previous []ident.WorkerID
		for i := range rng.IntN(8) {
			granted = append(granted, ident.Slot{Worker: ident.WorkerID(rune('a' + rng.IntN(4))), Index: i})
		}
		for range rng.IntN(8) {
			previous = append(previous, ident.WorkerID(rune('a'+rng.IntN(4))))
		}
		got := Order(granted, previous)
		if !slices.Equal(slices.SortedFunc(slices.Values(got), ident.Slot.Compare), slices.SortedFunc(slices.Values(granted), ident.Slot.Compare)) {
			t.Fatalf("%v is not a permutation of %v", got, granted)
		}
		want, have := map[ident.WorkerID]int{}, map[ident.WorkerID]int{}
		for i := range min(len(got), len(previous)) {
			want[previous[i]]++
			if got[i].Worker == previous[i] {
				have[previous[i]]++
			}
		}
		for w, n := range want {
			offered := 0
			for _, s := range granted {
				if s.Worker == w {
					offered++
				}
			}
			if have[w] != min(n, offered) {
				t.Fatalf("%d positions stay on %s, %d could: %v after %v", have[w], w, min(n, offered), got, previous)
			}
		}
	}
}
