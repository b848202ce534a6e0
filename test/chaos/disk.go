package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountDisk makes a small file system in memory and returns a directory in it. It needs root.
func mountDisk(at string, sizeBytes int64) (string, error) {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return "", fmt.Errorf("making a small disk: %w", err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, fmt.Sprintf("size=%d", sizeBytes)); err != nil {
		return "", fmt.Errorf("mounting a small disk at %s (needs root): %w", at, err)
	}
	return filepath.Join(at, "data"), nil
}

// unmountDisk ends mountDisk; where nothing was mounted it does nothing.
func unmountDisk(at string) error {
	err := unix.Unmount(at, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
