//go:build !(linux && amd64)

package clock

import (
	"errors"
	"time"
)

// Supported says whether clocks can be made wrong on this platform.
const Supported = false

// Clock is the clock of a process.
type Clock struct{}

var errUnsupported = errors.New("the clock of a process can be changed on linux/amd64 only")

// Take fails.
func Take(int) (*Clock, error) { return nil, errUnsupported }

// Jump fails.
func (*Clock) Jump(int64) error { return errUnsupported }

// Ahead fails.
func (*Clock) Ahead(time.Duration) error { return errUnsupported }

// Close does nothing.
func (*Clock) Close() error { return nil }
