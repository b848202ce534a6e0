package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

const (
	readyTimeout = 15 * time.Second
	stopGrace    = 15 * time.Second
	program      = "jobmanager"
)

// buildJobManager builds what is measured, as `make build` does, into dir.
func buildJobManager(ctx context.Context, dir string) (path string, err error) {
	path = filepath.Join(dir, program)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/sluice-stream/sluice/cmd/jobmanager")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the job manager: %w\n%s", err, output)
	}
	return path, nil
}

// jobManager is the one that is measured, as a process.
type jobManager struct {
	process *process.Process
	grpc    string
	http    string
	client  *client
	journal *journal
}

// startJobManager starts one on a fresh data directory below dir.
func startJobManager(path, dir string, profile bool) (*jobManager, error) {
	args := []string{"--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"), "--log-level", "debug"}
	if profile {
		args = append(args, "--pprof")
	}
	p, err := process.Start(process.Spec{Name: program, Path: path, Args: args, Dir: dir})
	if err != nil {
		return nil, err
	}
	m := &jobManager{process: p}
	fields, err := p.Ready(readyTimeout)
	if err != nil {
		return nil, errors.Join(err, p.Kill9())
	}
	m.grpc, m.http = fields["grpc"], fields["http"]
	if m.client, err = newClient(m.grpc); err != nil {
		return nil, errors.Join(err, p.Kill9())
	}
	if m.journal, err = openJournal(filepath.Join(dir, program+".log")); err != nil {
		return nil, errors.Join(err, m.client.close(), p.Kill9())
	}
	return m, nil
}

func (m *jobManager) close() error {
	code, err := m.process.Stop(stopGrace)
	if err == nil && code != 0 {
		err = fmt.Errorf("the job manager ended with code %d:\n%s", code, m.process.Tail(4<<10))
	}
	return errors.Join(m.client.close(), m.journal.close(), err)
}

// saveProfile takes a profile of the job manager; the query says of what and for how long.
func (m *jobManager) saveProfile(ctx context.Context, query, file string) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.http+"/debug/pprof/"+query, nil)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("taking a profile: GET %s: %s", query, response.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	_, err = io.Copy(out, response.Body)
	return errors.Join(err, out.Close())
}
