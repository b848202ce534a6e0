package kafkaenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// completeMarker is written last into a cached directory, so a killed fetch is never taken for a whole one.
const completeMarker = ".complete"

// cacheDir is the directory of everything that outlives a test run; it is made on demand.
func cacheDir() (string, error) {
	dir := os.Getenv("SLUICE_TEST_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding a cache directory (set SLUICE_TEST_CACHE): %w", err)
		}
		dir = filepath.Join(base, "sluice-test")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolving the cache directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache directory: %w", err)
	}
	return dir, nil
}

// Cached is cached for other packages that fetch something large.
func Cached(name string, fill func(dir string) error) (string, error) { return cached(name, fill) }

// cached returns the directory NAME of the cache. If it is not complete, fill is called with an empty
// directory, which then becomes it. A file lock makes test programs that run at once wait for each other.
func cached(name string, fill func(dir string) error) (string, error) {
	root, err := cacheDir()
	if err != nil {
		return "", err
	}
	target := filepath.Join(root, name)
	if complete(target) {
		return target, nil
	}
	unlock, err := lock(filepath.Join(root, name+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if complete(target) {
		return target, nil
	}
	if err := os.RemoveAll(target); err != nil {
		return "", fmt.Errorf("removing an incomplete %s: %w", name, err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", fmt.Errorf("making %s: %w", name, err)
	}
	if err := fill(target); err != nil {
		return "", fmt.Errorf("filling %s: %w", target, err)
	}
	if err := os.WriteFile(filepath.Join(target, completeMarker), nil, 0o644); err != nil {
		return "", fmt.Errorf("marking %s complete: %w", target, err)
	}
	return target, nil
}

func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, completeMarker))
	return err == nil
}

// lock waits for the exclusive lock on a file. The kernel releases it when the process dies.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening a lock file: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}
