package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Delete removes files that no manifest names any more; one that is gone already is no error. The
// removal is not made durable: what comes back after a power cut, Sweep removes.
func (s *Store) Delete(blobs ...manifest.Blob) error {
	var errs []error
	for _, b := range blobs {
		if !validName(b.Name) {
			errs = append(errs, fmt.Errorf("state file name %q: want JOB/FILE", b.Name))
			continue
		}
		errs = append(errs, s.remove(b.Name))
	}
	return errors.Join(errs...)
}

// Discard removes the files that were uploaded for a checkpoint that failed, those too whose upload is not over.
func (s *Store) Discard(job ident.JobID, checkpoint ident.CheckpointID) error {
	s.noteDiscarded(discarded{job, checkpoint}, time.Now())
	return s.each(string(job), func(file string) error {
		if id, ok := checkpointOf(file); !ok || id != checkpoint {
			return nil
		}
		return s.remove(path.Join(string(job), file))
	})
}

// noteDiscarded forgets those of which no upload can be on its way any more.
func (s *Store) noteDiscarded(d discarded, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.discarded, func(_ discarded, since time.Time) bool { return now.Sub(since) > discardedFor })
	s.discarded[d] = now
}

// DeleteJob removes all files of a job.
func (s *Store) DeleteJob(job ident.JobID) error {
	if err := ident.CheckName(string(job)); err != nil {
		return err
	}
	if err := s.root.RemoveAll(string(job)); err != nil {
		return fmt.Errorf("delete state files of job %s in %s: %w", job, s.dir, err)
	}
	return nil
}

// Sweep removes temporary files and those that no manifest of any job names, and says how many. It is
// for the start, before the first Put. The files of unread jobs are left alone: a manifest of theirs that
// cannot be read may name them. Directories that are empty then go, too.
func (s *Store) Sweep(reachable []manifest.Blob, unread ...ident.JobID) (int, error) {
	kept, removed := names(reachable), 0
	var errs []error
	jobs, err := fs.ReadDir(s.root.FS(), ".")
	errs = append(errs, err)
	for _, job := range jobs {
		if !job.IsDir() || ident.CheckName(job.Name()) != nil || slices.Contains(unread, ident.JobID(job.Name())) {
			continue // such as lost+found
		}
		left := 0
		err := s.each(job.Name(), func(file string) error {
			name := path.Join(job.Name(), file)
			if !strings.HasPrefix(file, tempPrefix) && (!validName(name) || kept[name]) {
				left++
				return nil
			}
			removed++
			return s.remove(name)
		})
		if err == nil && left == 0 { // of a job that was dropped, or that makes it again
			err = s.remove(job.Name())
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("sweep state files in %s: %w", s.dir, err)
	}
	return removed, nil
}

func names(blobs []manifest.Blob) map[string]bool {
	set := make(map[string]bool, len(blobs))
	for _, b := range blobs {
		set[b.Name] = true
	}
	return set
}

func (s *Store) remove(name string) error {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete state file in %s: %w", s.dir, err)
	}
	return nil
}

// each calls fn for every file of a job, all of them even after an error.
func (s *Store) each(job string, fn func(file string) error) error {
	entries, err := fs.ReadDir(s.root.FS(), job)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, fn(e.Name()))
	}
	return errors.Join(errs...)
}
