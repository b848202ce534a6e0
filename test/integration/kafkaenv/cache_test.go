package kafkaenv

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestCacheIsFilledOnceAndWhole(t *testing.T) {
	t.Setenv("SLUICE_TEST_CACHE", t.TempDir())
	broken := errors.New("the network is down")
	_, err := cached("thing", func(dir string) error {
		return errors.Join(broken, os.WriteFile(filepath.Join(dir, "half"), nil, 0o644))
	})
	if !errors.Is(err, broken) {
		t.Fatalf("error %v", err)
	}
	fills := 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, err := cached("thing", func(dir string) error {
				fills++ // under the lock
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("filling begins with %v, %v; want an empty directory", left, err)
				}
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(filepath.Join(dir, "whole")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if fills != 1 {
		t.Errorf("filled %d times, want once", fills)
	}
}
