package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// profileSeconds is how long a CPU profile lasts, from the submission on.
const profileSeconds = 3

// profile takes a CPU profile of every process of the cluster into --profile, and returns what waits for their end.
// The runs that are profiled are a little slower.
func (b *bench) profile(ctx context.Context, cl *cluster, t *trial) (wait func() error) {
	if b.opts.profile == "" {
		return func() error { return nil }
	}
	var g errgroup.Group
	addresses := map[string]string{jobManagerName: cl.http}
	for _, tm := range cl.tms {
		addresses[tm.id] = tm.http
	}
	for process, addr := range addresses {
		file := filepath.Join(b.opts.profile, profileName(t, process))
		g.Go(func() error {
			if err := saveProfile(ctx, addr, file); err != nil {
				return fmt.Errorf("profiling %s: %w", process, err)
			}
			return nil
		})
	}
	return g.Wait
}

// profileName has the round in it; they are summed up.
func profileName(t *trial, process string) string {
	return profileNameOf(selection{t.job.name, t.data.valueBytes, t.data.compression, t.by.name, t.mode.String()}, fmt.Sprintf("%s-%d", process, t.round))
}

func profileNameOf(s selection, process string) string {
	name := fmt.Sprintf("%s-%d-%s-%s-%s-%s.pprof", s.job, s.valueBytes, s.compression, s.contestant, s.mode, process)
	return strings.NewReplacer(" ", "-", "/", "-").Replace(name)
}

func saveProfile(ctx context.Context, addr, file string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, profileSeconds*time.Second+httpTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, profileSeconds), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", request.URL, response.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, response.Body)
	return err
}
