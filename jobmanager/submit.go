package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// submitTimeout bounds the checks of a submission (DESIGN: within 10 s).
const submitTimeout = 10 * time.Second

// submission is a request to run a job.
type submission struct {
	job               *graph.Job
	fromCheckpoint    string
	allowDroppedState bool
}

// invalidJobError is a job that is refused for what it says.
type invalidJobError struct {
	name   string
	faults []fault
}

type fault struct{ field, text string }

func (e *invalidJobError) Error() string { return fmt.Sprintf("job %.140q is invalid", e.name) }

// submit checks a job, resolves its start offsets, stores both in one write, and starts it.
func (m *Manager) submit(ctx context.Context, s submission) (ident.JobID, []string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, submitTimeout, fmt.Errorf("the checks took longer than %s", submitTimeout))
	defer cancel()
	plan, err := m.plan(s.job)
	if err != nil {
		return "", nil, err
	}
	release, err := m.reserveName(s.job.Name)
	if err != nil {
		return "", nil, err
	}
	defer release()
	if err := m.connector.Check(ctx, s.job); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errCheckFailed, withCause(ctx, err))
	}
	kept, err := m.keep(s)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", errNotRestorable, err)
	}
	defer kept()
	id := ident.JobID(newID())
	zero, aside, warnings, err := m.checkpointZero(ctx, id, plan, s)
	if err != nil {
		return "", nil, err
	}
	for _, p := range graph.MarkerWarnings(s.job, m.connector.SinkPartitions(ctx, s.job)) {
		warnings = append(warnings, p.String())
	}
	if err := checkSize(m.connector, s.job, plan, zero); err != nil {
		return "", nil, &invalidJobError{name: s.job.Name, faults: []fault{{"", err.Error()}}}
	}
	// State is taken over last: whatever fails before leaves no file behind. It may take longer than the checks.
	if err := m.linkBlobs(context.WithoutCancel(ctx), id, zero); err != nil {
		return "", nil, fmt.Errorf("%w: %w", errNotRestorable, errors.Join(err, m.blobs.DeleteJob(id)))
	}
	r, err := m.create(id, s.job, plan, zero, aside)
	if err != nil {
		if !inDoubt(err) { // else its files stay until the next start
			err = errors.Join(err, m.blobs.DeleteJob(id))
		}
		return "", nil, err
	}
	m.log.Info("job submitted", "job", id, "name", s.job.Name, "slots", plan.Slots, "splits", len(zero.Positions))
	m.mu.Lock()
	m.add(r)
	m.mu.Unlock()
	return id, warnings, nil
}

// withCause adds why ctx ended to an error that it caused.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// plan checks everything about a job that can be checked without asking anybody.
func (m *Manager) plan(job *graph.Job) (*graph.Physical, error) {
	job.SetDefaults()
	found := graph.Check(job, graph.Checks{Expressions: m.expressions, Properties: m.connector.CheckProperties})
	if len(found) > 0 {
		invalid := &invalidJobError{name: job.Name}
		for _, p := range found {
			text := p.Message
			if p.Line > 0 {
				text = fmt.Sprintf("at %d:%d of the expression: %s", p.Line, p.Column, text)
			}
			if p.Hint != "" {
				text += "; " + p.Hint
			}
			invalid.faults = append(invalid.faults, fault{p.Path.String(), text})
		}
		return nil, invalid
	}
	plan, err := graph.Plan(job, m.expressions)
	if err != nil {
		return nil, &invalidJobError{name: job.Name, faults: []fault{{"", err.Error()}}}
	}
	return plan, nil
}

// reserveName refuses a second running job of a name, also while the first is being submitted.
func (m *Manager) reserveName(name string) (release func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runners {
		if r.name == name && !r.ended() {
			if broken := r.view().broken; broken != "" {
				return nil, fmt.Errorf("job %q (%s) has not ended: %s: %w", name, r.id, broken, errNameInUse)
			}
			return nil, fmt.Errorf("job %q (%s) is running: cancel or stop it first, or choose another name: %w", name, r.id, errNameInUse)
		}
	}
	if m.submitting[name] {
		return nil, fmt.Errorf("job %q is just being submitted: %w", name, errNameInUse)
	}
	m.submitting[name] = true
	return func() {
		m.mu.Lock()
		delete(m.submitting, name)
		m.mu.Unlock()
	}, nil
}

// checkpointZero is where the job begins: at its start offsets, or at the checkpoint of another job. aside is what that one
// had set aside.
func (m *Manager) checkpointZero(ctx context.Context, id ident.JobID, plan *graph.Physical, s submission) (zero *manifest.Manifest, aside []manifest.Position, warnings []string, err error) {
	if s.fromCheckpoint == "" {
		positions, warnings, err := m.startPositions(ctx, s.job)
		return checkpoint.Zero(id, plan.Identity, positions, time.Now()), nil, warnings, err
	}
	zero, aside, err = m.adopt(id, plan, s)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", errNotRestorable, err)
	}
	positions, warnings, err := m.startPositions(ctx, startsOf(s.job, zero.Positions, aside))
	if err != nil {
		return nil, nil, nil, err
	}
	resumed, err := m.continued(ctx, s.job, zero.Positions, aside, positions)
	if err != nil {
		return nil, nil, nil, err
	}
	zero.Positions = resumed.positions
	return zero, resumed.aside, append(warnings, resumed.warnings...), nil
}

func (m *Manager) startPositions(ctx context.Context, job *graph.Job) ([]manifest.Position, []string, error) {
	positions, warnings, err := m.connector.StartPositions(ctx, job)
	if err != nil {
		err = fmt.Errorf("%w: %w", errCheckFailed, withCause(ctx, err))
	}
	return positions, warnings, err
}
