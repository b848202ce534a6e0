package main

import (
	"context"
	"errors"
	"strings"
)

// await waits for the ready line of a daemon and returns one of its fields.
func await(ctx context.Context, ready <-chan string, field string) (string, error) {
	select {
	case line := <-ready:
		for _, f := range strings.Fields(line) {
			if k, v, ok := strings.Cut(f, "="); ok && k == field {
				return v, nil
			}
		}
		return "", errors.New("the ready line of a daemon has no " + field + ": " + line)
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
