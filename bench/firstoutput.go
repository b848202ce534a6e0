package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/bench/figures"
)

// firstOutputRecords wait in the source when a job is submitted.
const firstOutputRecords = 100_000

// firstOutput submits a pass-through job, at-least-once, to an idle cluster on a warm broker, a fresh cluster
// each time: milliseconds from before `sluice submit` until a reader has the first record of the output.
func (b *bench) firstOutput(ctx context.Context) (figures.Sample, error) {
	data, err := b.fill(ctx, datasetSpec{lines, trafficValueBytes, noCompression, firstOutputRecords})
	if err != nil {
		return figures.Sample{}, err
	}
	var took []float64
	for i := range b.opts.starts {
		t := &trial{by: sluice, mode: mode{atLeastOnce, time.Second}, job: jobByName(casePass), data: data}
		err := b.withTarget(ctx, t, func(ctx context.Context) error {
			after, err := b.submitAndRead(ctx, t)
			took = append(took, figures.Ms(after))
			return err
		})
		if err != nil {
			return figures.NewSample(took), fmt.Errorf("start %d: %w", i+1, err)
		}
	}
	out := figures.NewSample(took)
	b.say("first output after submission: %s", milliseconds(out))
	return out, b.broker.deleteTopic(ctx, data.topic)
}

func (b *bench) submitAndRead(ctx context.Context, t *trial) (after time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recoveryTimeout, fmt.Errorf("no output within %s", recoveryTimeout))
	defer cancel()
	cl, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	starts := map[int32]kgo.Offset{}
	for p := range int32(partitions) {
		starts[p] = kgo.NewOffset().At(0)
	}
	reader, err := kgo.NewClient(b.broker.options(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.target: starts}))...)
	if err != nil {
		return 0, fmt.Errorf("making a client: %w", err)
	}
	defer reader.Close()
	type sighting struct {
		at  time.Time
		err error
	}
	seen := make(chan sighting, 1)
	go func() { // ends with the context at the latest
		fetches := reader.PollFetches(ctx)
		seen <- sighting{time.Now(), fetches.Err()}
	}()
	start := time.Now()
	if _, err := cl.submit(ctx, jobOf(b, t).yaml()); err != nil {
		cancel()
		<-seen
		return 0, err
	}
	first := <-seen
	if first.err != nil {
		return 0, errors.Join(context.Cause(ctx), first.err)
	}
	return first.at.Sub(start), nil
}
