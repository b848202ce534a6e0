package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// The witness has two slots, each in a page of its own, written in turn: a torn write spoils only the
// slot that is being written, and the other one holds the sequence before. A slot is
//
//	"SLWT" | version u32 | cluster id, 8 bytes | sequence u64 | CRC32C u32      (little-endian)
const (
	witnessMagic   = "SLWT"
	witnessVersion = 1
	slotStride     = 4096
	slotBytes      = 4 + 4 + 8 + 8 + crc32.Size
)

// witness holds the sequence of the last write transaction outside of the database.
type witness struct {
	path     string
	file     *os.File
	cluster  clusterID
	sequence uint64
}

func encodeSlot(cluster clusterID, sequence uint64) []byte {
	b := append(make([]byte, 0, slotBytes), witnessMagic...)
	b = binary.LittleEndian.AppendUint32(b, witnessVersion)
	b = append(b, cluster[:]...)
	b = binary.LittleEndian.AppendUint64(b, sequence)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSlot(b []byte) (cluster clusterID, sequence uint64, err error) {
	body := b[:slotBytes-crc32.Size]
	switch {
	case string(b[:4]) != witnessMagic:
		return cluster, 0, errors.New("does not begin as a witness does")
	case binary.LittleEndian.Uint32(b[len(body):]) != crc32.Checksum(body, castagnoli):
		return cluster, 0, errors.New("wrong checksum")
	case binary.LittleEndian.Uint32(b[4:]) != witnessVersion:
		return cluster, 0, fmt.Errorf("version %d, this program reads %d", binary.LittleEndian.Uint32(b[4:]), witnessVersion)
	}
	return clusterID(b[8:16]), binary.LittleEndian.Uint64(b[16:]), nil
}

// openWitness reads the newer of the two slots. It returns os.ErrNotExist, ErrDamaged if no slot can be
// read, or an error of the file system.
func openWitness(path string) (*witness, error) {
	// O_DSYNC: a write returns when it is durable. The file never grows, so that is one disk write.
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_DSYNC, 0)
	if err != nil {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	w := &witness{path: path, file: f}
	if err := w.read(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

func (w *witness) read() error {
	var reasons []error
	found := false
	for i := range int64(2) {
		buf := make([]byte, slotBytes)
		if _, err := w.file.ReadAt(buf, i*slotStride); err != nil {
			if !errors.Is(err, io.EOF) {
				return fmt.Errorf("read witness: %w", err)
			}
			reasons = append(reasons, fmt.Errorf("slot %d: the file is too short", i))
			continue
		}
		cluster, sequence, err := decodeSlot(buf)
		switch {
		case err != nil:
			reasons = append(reasons, fmt.Errorf("slot %d: %w", i, err))
			continue
		case found && cluster != w.cluster:
			return fmt.Errorf("%s: the slots are of clusters %s and %s: %w", w.path, w.cluster, cluster, ErrDamaged)
		}
		found = true
		w.cluster, w.sequence = cluster, max(w.sequence, sequence)
	}
	if !found {
		return fmt.Errorf("%s cannot be read: %w: %w", w.path, ErrDamaged, errors.Join(reasons...))
	}
	return nil
}

// makeWitness makes the file with sequence 0, whole or not at all.
func makeWitness(path string, cluster clusterID) (*witness, error) {
	content := make([]byte, slotStride+slotBytes)
	copy(content, encodeSlot(cluster, 0))
	copy(content[slotStride:], encodeSlot(cluster, 0))
	if err := writeWhole(path, content); err != nil {
		return nil, fmt.Errorf("make witness: %w", err)
	}
	return openWitness(path)
}

// advance makes the sequence durable.
func (w *witness) advance(sequence uint64) error {
	if _, err := w.file.WriteAt(encodeSlot(w.cluster, sequence), int64(sequence%2)*slotStride); err != nil {
		return err
	}
	w.sequence = sequence
	return nil
}

func (w *witness) close() error { return w.file.Close() }

// writeWhole makes a file appear under its name with all of its content, durably.
func writeWhole(path string, content []byte) error {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return publish(temp, path)
}

// publish gives a finished file its name, durably.
func publish(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
