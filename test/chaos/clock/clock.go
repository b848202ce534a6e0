//go:build linux && amd64

// Package clock makes the clock of one process wrong. A Go program asks the kernel's vDSO for the time, a few pages of
// code that every process has a copy of: the copy of the victim is changed so that it adds what it is told.
package clock

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Supported says whether clocks can be made wrong on this platform.
const Supported = true

const (
	symbol = "__vdso_clock_gettime"
	// jumpBytes is the size of the jump that is put at the symbol.
	jumpBytes = 5
	// stopTimeout bounds the wait for all threads of a process to stand still.
	stopTimeout = 5 * time.Second
)

// Clock is the clock of a process.
type Clock struct {
	memory        *os.File
	ahead, jumped int64 // addresses of the two numbers below
}

// code is clock_gettime(edi, rsi) by the system call. Behind it stand two numbers of 8 bytes: the first is added to the
// nanoseconds of every clock, the second to the seconds of CLOCK_REALTIME.
var code = []byte{
	0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228
	0x0f, 0x05, // syscall
	0x48, 0x8b, 0x0d, 0x32, 0x00, 0x00, 0x00, // mov rcx, [ahead]
	0x48, 0x03, 0x4e, 0x08, // add rcx, [rsi+8]
	0x48, 0x81, 0xf9, 0x00, 0xca, 0x9a, 0x3b, // cmp rcx, 1e9
	0x7c, 0x0a, // jl store
	0x48, 0x81, 0xe9, 0x00, 0xca, 0x9a, 0x3b, // sub rcx, 1e9
	0x48, 0xff, 0x06, // inc qword [rsi]
	0x48, 0x89, 0x4e, 0x08, // store: mov [rsi+8], rcx
	0x85, 0xff, // test edi, edi
	0x75, 0x0a, // jne done
	0x48, 0x8b, 0x0d, 0x14, 0x00, 0x00, 0x00, // mov rcx, [jumped]
	0x48, 0x01, 0x0e, // add [rsi], rcx
	0xc3,                                           // done: ret
	0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, // up to a multiple of 8
}

// Take changes the clock of a process, which goes right at first. The process may be stopped for a few milliseconds.
// Close frees what Take holds here; the process keeps what it has.
func Take(pid int) (*Clock, error) {
	base, image, err := vdso(pid)
	if err != nil {
		return nil, err
	}
	entry, err := find(image)
	if err != nil {
		return nil, err
	}
	// The end of the image is padding.
	at := (int64(len(image)) - int64(len(code)) - 16) &^ 7
	if len(bytes.Trim(image[at:], "\x00")) > 0 {
		return nil, errors.New("the vDSO has no room left for a clock")
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the memory of process %d: %w", pid, err)
	}
	numbers := base + at + int64(len(code))
	c := &Clock{memory: memory, ahead: numbers, jumped: numbers + 8}
	_, err = memory.WriteAt(code, base+at)
	jump := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(at-entry-jumpBytes))
	err = errors.Join(err, stopped(pid, base+entry, func() error {
		_, err := memory.WriteAt(jump, base+entry)
		return err
	}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("changing the clock of process %d: %w", pid, err), memory.Close())
	}
	return c, nil
}

// Jump sets how many seconds the wall clock is ahead of the true one, or with less than 0 behind it.
func (c *Clock) Jump(seconds int64) error { return c.write(c.jumped, seconds) }

// Ahead sets how far all clocks are ahead, less than a second. It must never get less: one of them never goes back.
func (c *Clock) Ahead(by time.Duration) error {
	if by < 0 || by >= time.Second {
		return fmt.Errorf("clocks cannot be %s ahead, want less than a second", by)
	}
	return c.write(c.ahead, int64(by))
}

// Close ends the access to the process.
func (c *Clock) Close() error { return c.memory.Close() }

func (c *Clock) write(address, value int64) error {
	if _, err := c.memory.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(value)), address); err != nil {
		return fmt.Errorf("setting a clock: %w", err)
	}
	return nil
}

// vdso reads the vDSO of a process, and says where it is.
func vdso(pid int) (base int64, image []byte, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, nil, fmt.Errorf("looking for the vDSO: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if fields[len(fields)-1] != "[vdso]" {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		first, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, nil, fmt.Errorf("looking for the vDSO: %w", err)
		}
		memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			return 0, nil, fmt.Errorf("reading the vDSO: %w", err)
		}
		defer memory.Close()
		image = make([]byte, end-first)
		if _, err := memory.ReadAt(image, first); err != nil {
			return 0, nil, fmt.Errorf("reading the vDSO: %w", err)
		}
		return first, image, nil
	}
	return 0, nil, fmt.Errorf("process %d has no vDSO", pid)
}

// find is the offset of the function in the image.
func find(image []byte) (int64, error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("reading the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("reading the symbols of the vDSO: %w", err)
	}
	for _, s := range symbols {
		if s.Name == symbol {
			return int64(s.Value), nil
		}
	}
	return 0, fmt.Errorf("the vDSO has no %s", symbol)
}

// stopped does something while every thread of a process stands still, none of them within the first instructions at
// entry, and lets it go on.
func stopped(pid int, entry int64, do func() error) (err error) {
	deadline := time.Now().Add(stopTimeout)
	for time.Now().Before(deadline) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		var clear bool
		clear, err = await(pid, entry, deadline)
		if err == nil && clear {
			err = do()
		}
		err = errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
		if err != nil || clear {
			return err
		}
	}
	return fmt.Errorf("process %d did not stand still within %s", pid, stopTimeout)
}

// await waits until all threads have stopped, and says whether none of them is at the entry.
func await(pid int, entry int64, deadline time.Time) (clear bool, err error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		still, at, err := threads(pid, entry)
		if err != nil || still || time.Now().After(deadline) {
			return still && !at, err
		}
		<-tick.C
	}
}

// threads looks at every thread: do all stand still, and is one of them at the entry?
func threads(pid int, entry int64) (still, at bool, err error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, false, err
	}
	for _, task := range tasks {
		stat, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		call, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, task.Name()))
		if err := errors.Join(err1, err2); err != nil {
			return false, false, err
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if !strings.HasPrefix(rest, "T") {
			return false, false, nil
		}
		fields := strings.Fields(string(call)) // the last one is the program counter
		counter, err := strconv.ParseInt(fields[len(fields)-1], 0, 64)
		if err != nil {
			return false, false, nil // it runs
		}
		at = at || counter > entry && counter < entry+jumpBytes
	}
	return true, at, nil
}
