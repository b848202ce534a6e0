package jobmanager

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// splitPrefix begins the names of the small values that hold splits which were found while the job ran, or set aside. They
// stay as long as the job: an older checkpoint may be taken over that does not hold them, and a topic may be back.
const splitPrefix = "split/"

// splitValue is such a split in the store, as JSON under its name.
type splitValue struct {
	splitStart
	TopicID string       `json:"topicId,omitempty"`
	Aside   bool         `json:"aside,omitempty"`
	Earlier []splitStart `json:"earlier,omitempty"`
}

// splitStart is where a split is to be read from if a manifest does not hold it. It is said of manifests from a checkpoint
// on; the first one of a split also of all before.
type splitStart struct {
	Next        int64              `json:"next"`
	LeaderEpoch int32              `json:"leaderEpoch"`
	Since       ident.CheckpointID `json:"since,omitempty"`
}

// storedSplit is a split with where it is to be read from if the manifest does not say so. One that is set aside is not
// read at all; earlier are the places before that, oldest first, for who takes an older checkpoint over.
type storedSplit struct {
	manifest.Position
	aside   bool
	since   ident.CheckpointID
	earlier []splitStart
}

// asOf is where the split is to be read from if a checkpoint does not hold it, and whether it is read at all.
func (s *storedSplit) asOf(n ident.CheckpointID) (p manifest.Position, aside bool) {
	if n >= s.since || len(s.earlier) == 0 {
		return s.Position, s.aside
	}
	at := s.earlier[0]
	for _, e := range s.earlier {
		if n >= e.Since {
			at = e
		}
	}
	p = s.Position
	p.Next, p.LeaderEpoch = at.Next, at.LeaderEpoch
	return p, false
}

// restorePoint is a manifest with the splits that were found and do not stand in it: they begin where they were
// stored. Those that are set aside are left out.
func (m *Manager) restorePoint(id ident.JobID, at *manifest.Manifest) (out *manifest.Manifest, err error) {
	out, _, err = m.heldBy(id, at)
	return out, err
}

// heldBy is a restore point, and beside it what is set aside of it.
func (m *Manager) heldBy(id ident.JobID, at *manifest.Manifest) (out *manifest.Manifest, aside []manifest.Position, err error) {
	err = m.store.View(func(tx *boltstore.Tx) error {
		out, aside, err = withFound(tx, id, at)
		return err
	})
	return out, aside, err
}

// withFound puts the stored splits of a job into a copy of one of its manifests.
func withFound(tx *boltstore.Tx, id ident.JobID, m *manifest.Manifest) (out *manifest.Manifest, aside []manifest.Position, err error) {
	var stored []storedSplit
	err = tx.Values(id, splitPrefix, func(name string, value []byte) error {
		s, err := readSplit(name, value)
		if err != nil {
			return fmt.Errorf("split %q of job %s: %w: %w", name, id, boltstore.ErrDamaged, err)
		}
		stored = append(stored, s)
		return nil
	})
	copied := *m
	copied.Positions, aside = merged(m.Checkpoint, m.Positions, stored)
	return &copied, aside, err
}

// merged decides where a job goes on that is restored with the positions of a checkpoint. A position counts before what is
// stored, with two exceptions: what is set aside just there is not read, and what was found of a topic that came after the
// position's is newer than it. What is set aside elsewhere was read on since, by a subtask that kept it.
func merged(n ident.CheckpointID, positions []manifest.Position, stored []storedSplit) (read, aside []manifest.Position) {
	at := make(map[manifest.Split]int, len(positions))
	for i, p := range positions {
		at[p.Split] = i
	}
	read = slices.Clone(positions)
	gone := map[manifest.Split]bool{}
	for _, s := range stored {
		i, held := at[s.Split]
		p, apart := s.asOf(n)
		if held && !otherTopic(positions[i], p) {
			if p = s.Position; !s.aside || positions[i].TopicID != p.TopicID || positions[i].Next != p.Next {
				continue
			}
			apart = true
		}
		switch {
		case apart:
			aside = append(aside, p)
			gone[p.Split] = true
		case held:
			read[i] = p
		default:
			read = append(read, p)
		}
	}
	read = slices.DeleteFunc(read, func(p manifest.Position) bool { return gone[p.Split] })
	slices.SortFunc(read, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	return read, aside
}

// otherTopic says that two positions are certainly of different topics.
func otherTopic(a, b manifest.Position) bool {
	return a.TopicID != b.TopicID && a.TopicID != (manifest.TopicID{}) && b.TopicID != (manifest.TopicID{})
}

// putSplit stores a found split and gives what is stored. One that is there stays where it is; one that was set aside is
// read again, from where it stood if its topic is the same.
func putSplit(tx *boltstore.Tx, id ident.JobID, p manifest.Position) (manifest.Position, error) {
	name := splitName(p.Split)
	value, err := tx.Value(id, name)
	if errors.Is(err, boltstore.ErrNotFound) {
		return p, storeSplit(tx, id, storedSplit{Position: p})
	}
	if err != nil {
		return p, err
	}
	old, err := readSplit(name, value)
	switch {
	case err != nil || !old.aside:
		return old.Position, err
	case p.TopicID == manifest.TopicID{}:
		return p, fmt.Errorf("topic %s %w", p.Topic, errBackWithoutID)
	case p.TopicID == old.TopicID:
		old.aside = false
		return old.Position, storeSplit(tx, id, old)
	}
	return p, storeSplit(tx, id, storedSplit{Position: p})
}

// maxEarlier bounds how many times that a split was set aside are remembered.
const maxEarlier = 16

// errBackWithoutID is why a split that was set aside is not read yet.
var errBackWithoutID = errors.New("is back, and the broker tells no id of it: whether it is the one that was read before is not known; asked again")

// setAside stores where splits stand in the newest checkpoint, or where they were found if it does not hold them, and
// gives those that are set aside now. One without the id of its topic is not: it could not be told from a later topic.
func setAside(tx *boltstore.Tx, id ident.JobID, which []manifest.Position) ([]manifest.Position, error) {
	newest, err := tx.Newest(id)
	if err != nil {
		return nil, err
	}
	m, err := tx.Manifest(id, newest)
	if err != nil {
		return nil, err
	}
	held, before, err := withFound(tx, id, m)
	if err != nil {
		return nil, err
	}
	at := map[manifest.Split]manifest.Position{}
	for _, p := range held.Positions {
		at[p.Split] = p
	}
	apart := map[manifest.Split]bool{}
	for _, p := range before { // for an attempt that has ended since
		at[p.Split], apart[p.Split] = p, true
	}
	var out []manifest.Position
	for _, p := range which {
		now, ok := at[p.Split]
		if !ok || now.TopicID != p.TopicID || p.TopicID == (manifest.TopicID{}) {
			continue
		}
		if !apart[p.Split] {
			if err := setOneAside(tx, id, newest, now); err != nil {
				return nil, err
			}
		}
		out = append(out, now)
	}
	return out, nil
}

// setOneAside stores where a split stands in the newest checkpoint, and keeps where it was to be read from before.
func setOneAside(tx *boltstore.Tx, id ident.JobID, newest ident.CheckpointID, now manifest.Position) error {
	s := storedSplit{Position: now, aside: true, since: newest}
	value, err := tx.Value(id, splitName(now.Split))
	if errors.Is(err, boltstore.ErrNotFound) {
		return storeSplit(tx, id, s)
	}
	if err != nil {
		return err
	}
	old, err := readSplit(splitName(now.Split), value)
	if err != nil {
		return err
	}
	if old.TopicID == now.TopicID {
		s.earlier = append(old.earlier, splitStart{old.Next, old.LeaderEpoch, old.since})
		if n := len(s.earlier); n > maxEarlier { // the first is for checkpoint 0, the last for those that are kept
			s.earlier = slices.Delete(s.earlier, 1, n-maxEarlier+1)
		}
	}
	return storeSplit(tx, id, s)
}

func splitName(s manifest.Split) string {
	return fmt.Sprintf("%s%s/%s/%d", splitPrefix, s.Source, s.Topic, s.Partition)
}

func storeSplit(tx *boltstore.Tx, id ident.JobID, s storedSplit) error {
	name := splitName(s.Split)
	data, err := json.Marshal(splitValue{splitStart{s.Next, s.LeaderEpoch, s.since}, s.TopicID.String(), s.aside, s.earlier})
	if err != nil {
		return fmt.Errorf("encode split %s: %w", name, err)
	}
	return tx.PutValue(id, name, data)
}

// readSplit reads split/SOURCE/TOPIC/PARTITION and its value. Found splits are never bounded.
func readSplit(name string, value []byte) (storedSplit, error) {
	p := storedSplit{Position: manifest.Position{Stop: -1}}
	parts := strings.Split(strings.TrimPrefix(name, splitPrefix), "/")
	if len(parts) != 3 {
		return p, fmt.Errorf("want SOURCE/TOPIC/PARTITION, got %q", name)
	}
	partition, err := strconv.ParseInt(parts[2], 10, 32)
	p.Split = manifest.Split{Source: parts[0], Topic: parts[1], Partition: int32(partition)}
	var s splitValue
	err = errors.Join(err, json.Unmarshal(value, &s))
	id, err2 := base64.RawURLEncoding.DecodeString(s.TopicID)
	copy(p.TopicID[:], id)
	p.Next, p.LeaderEpoch, p.since, p.aside, p.earlier = s.Next, s.LeaderEpoch, s.Since, s.Aside, s.Earlier
	return p, errors.Join(err, err2)
}
