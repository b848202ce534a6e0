package fault

import (
	"context"
	"fmt"
	"time"
)

// maxPause is the longest time to recover between two faults of a mixed run; the shortest is none.
const maxPause = 10 * time.Second

// mixable are the faults of a mixed run: those that need no set-up of their own and leave the job running.
func mixable() []Fault {
	var all []Fault
	for _, f := range Catalogue() {
		if f.Inject != nil && f.Gap == "" && !f.Alone && f.Tune == nil && f.Expect.Final == "" && f.ID != "F18" && f.ID != "F4" {
			all = append(all, f)
		}
	}
	return all
}

// Mixed is random faults one after the other for a time, with pauses of random length to recover. Only the data
// and the end are judged; what the states would be is no longer known.
func Mixed(duration time.Duration) Fault {
	return Fault{
		ID: "mixed", What: fmt.Sprintf("random faults for %s", duration), Expect: Expect{MaxAttempts: 1000},
		Inject: func(ctx context.Context, s *Scene) error {
			faults := mixable()
			end := time.Now().Add(duration)
			for time.Now().Before(end) {
				f := faults[s.Rand.IntN(len(faults))]
				if err := f.Inject(ctx, s); err != nil {
					return fmt.Errorf("%s: %w", f.Name(), err)
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
