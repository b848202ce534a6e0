package bubble

import (
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
)

// disk is that of the job manager: it can be full, and it can be where the job manager crashes.
type disk struct {
	mu   sync.Mutex
	full bool
	// slow is how long each write takes, writing whether a slow one is on its way.
	slow    time.Duration
	writing bool
	// writes counts those that are durable.
	writes int
	// after counts the steps that are still to go well before the crash; 0: none is due.
	after int
	dead  bool
	// crashed is closed at the crash; die takes the rest of the process with it.
	crashed chan struct{}
	die     func()
}

// hook is boltstore.Options'.
func (d *disk) hook(step boltstore.Step) error {
	if slow := d.slowness(); slow > 0 && step == boltstore.StepCommit {
		d.note(true)
		time.Sleep(slow)
		d.note(false)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if step == boltstore.StepDone {
		d.writes++
	}
	if d.after > 0 {
		if d.after--; d.after == 0 {
			d.dead = true
			d.die()
			close(d.crashed)
		}
	}
	switch {
	case d.dead:
		return syscall.EIO // nobody sees it: the process is dead
	case d.full && step == boltstore.StepCommit:
		return &os.PathError{Op: "write", Path: "checkpoints.db", Err: syscall.ENOSPC}
	}
	return nil
}

func (d *disk) note(writing bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writing = writing
}

// written is how many writes are durable.
func (d *disk) written() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// busy says that a slow write is on its way.
func (d *disk) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writing
}

func (d *disk) slowness() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slow
}

// slowDown makes each write take so long.
func (d *disk) slowDown(each time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = each
}

// fill makes writes fail because there is no room, until it is called with false.
func (d *disk) fill(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = on
}

// crash lets no write take effect any more.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead {
		d.dead = true
		d.die()
	}
}

// crashAfter makes the job manager crash at the n-th step of a write from now; each write has three.
func (d *disk) crashAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.after = n
}

func (d *disk) isDead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}
