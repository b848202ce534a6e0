package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// maxPause is the longest time to recover between two rounds of a mixed run; the shortest is none.
const maxPause = 10 * time.Second

// side is what a fault breaks. Faults of different sides can be injected at the same time; who mends lines mends all of
// them, so one may end early.
type side int

const (
	processes side = iota // of Sluice
	brokers
	lines
	sides // how many there are
)

// sideOf says what a fault breaks, by its number; false: it is not for mixed runs.
func sideOf(f Fault) (side, bool) {
	if f.Inject == nil || f.Alone || f.Tune != nil || f.Expect.Final != "" {
		return 0, false
	}
	switch f.ID {
	case "F1", "F3", "F6", "F7", "F28", "F29":
		return processes, true
	case "F8", "F9", "F25", "F26":
		return brokers, true
	case "F12", "F13", "F20":
		return lines, true
	}
	return 0, false
}

// mixable are the faults of a mixed run of a workload, by what they break: those that need no set-up of their own and
// leave the job running.
func mixable(kind workload.Kind) (all [sides][]Fault) {
	for _, f := range Catalogue() {
		if of, ok := sideOf(f); ok && (f.Kinds == nil || slices.Contains(f.Kinds, kind)) {
			all[of] = append(all[of], f)
		}
	}
	return all
}

// draw takes a random subset of sides, at least one, and a random fault of each.
func draw(from [sides][]Fault, random *rand.Rand) []Fault {
	var drawn []Fault
	subset := 1 + random.IntN(1<<sides-1) // a bit for each side
	for of, faults := range from {
		if subset&(1<<of) != 0 {
			drawn = append(drawn, faults[random.IntN(len(faults))])
		}
	}
	return drawn
}

// Mixed is random faults for a time, several at once, with pauses of random length to recover. A round takes as long as
// the longest of its faults, 2 to 20 s. Only the data and the end are judged; what the states would be is no longer known.
func Mixed(duration time.Duration) Fault {
	return Fault{
		ID: "mixed", What: fmt.Sprintf("random faults for %s, several at once", duration), Expect: Expect{MaxAttempts: 1000},
		Inject: func(ctx context.Context, s *Scene) error {
			faults := mixable(s.Workload.Kind())
			end := time.Now().Add(duration)
			for time.Now().Before(end) {
				if err := s.round(ctx, draw(faults, s.Rand)); err != nil {
					return err
				}
				if err := s.Heal(ctx); err != nil {
					return err
				}
				if err := pause(ctx, time.Duration(s.Rand.Int64N(int64(maxPause)))); err != nil {
					return err
				}
			}
			return s.startAll()
		},
	}
}

// round injects faults of different sides at the same time.
func (s *Scene) round(ctx context.Context, faults []Fault) error {
	var begun sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range faults {
		s.Drawn(f.Name())
		own := *s
		own.Mixed = true
		own.Rand = rand.New(rand.NewPCG(s.Rand.Uint64(), 1)) // one each: they are not to be shared
		own.Begin = func() {
			begun.Lock()
			defer begun.Unlock()
			s.Begin()
		}
		g.Go(func() error {
			if err := f.Inject(ctx, &own); err != nil {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}
