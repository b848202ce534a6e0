package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

const (
	// parallel is how many partitions a call works on at once.
	parallel = maxRequests
	// maxFaults bounds the partitions that an error names.
	maxFaults = 5
)

// each runs work for every partition, some at once. A fault of a node is collected; no server, or the end
// of the context, ends it all.
func (c *Client) each(ctx context.Context, group string, partitions []Partition, work func(ctx context.Context, i int, path string) error) error {
	if err := CheckName("group", group); err != nil {
		return fmt.Errorf("zookeeper: %w", err)
	}
	for _, p := range partitions {
		if err := validatePartition(p); err != nil {
			return fmt.Errorf("zookeeper: %w", err)
		}
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	faults := make([]error, len(partitions))
	tasks, within := errgroup.WithContext(ctx)
	tasks.SetLimit(parallel)
	for i, p := range partitions {
		tasks.Go(func() error {
			if within.Err() != nil {
				return fmt.Errorf("zookeeper: %w", context.Cause(within))
			}
			err := work(within, i, c.offsetPath(group, p))
			if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNoChroot) || ctx.Err() != nil {
				return err
			}
			faults[i] = err
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		return err
	}
	return summary(faults)
}

// summary joins the first faults and counts the others.
func summary(faults []error) error {
	faults = slices.DeleteFunc(faults, func(err error) bool { return err == nil })
	if more := len(faults) - maxFaults; more > 0 {
		faults = append(faults[:maxFaults], fmt.Errorf("and %d more partitions", more))
	}
	return errors.Join(faults...)
}
