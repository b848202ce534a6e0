package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// storeSession is the session timeout of the suite's own look at ZooKeeper.
const storeSession = 10 * time.Second

// store is ZooKeeper as the suite looks at it: past the proxy, and by the library alone.
type store struct {
	group  string
	conn   *zk.Conn
	events <-chan zk.Event
	stop   func() bool
}

// openStore connects. The end of the context ends what waits.
func (s *Scene) openStore(ctx context.Context) (*store, error) {
	conn, events, err := zk.Connect([]string{s.DirectZooKeeper()}, storeSession, zk.WithLogInfo(false), zk.WithLogger(silent{}))
	if err != nil {
		return nil, fmt.Errorf("connecting to ZooKeeper: %w", err)
	}
	return &store{group: s.Workload.Params().Name, conn: conn, events: events, stop: context.AfterFunc(ctx, conn.Close)}, nil
}

func (s *store) close() {
	s.stop()
	s.conn.Close()
	for range s.events { // until its goroutines are gone
	}
}

// silent drops what the library logs: that a server is down is what the suite does.
type silent struct{}

func (silent) Printf(string, ...any) {}

func (s *store) directory(topic string) string {
	return "/consumers/" + s.group + "/offsets/" + topic
}

// nodes are the nodes of the partitions of a topic.
func (s *store) nodes(topic string) ([]string, error) {
	partitions, _, err := s.conn.Children(s.directory(topic))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.directory(topic), err)
	}
	slices.Sort(partitions)
	for i, p := range partitions {
		partitions[i] = s.directory(topic) + "/" + p
	}
	return partitions, nil
}

func (s *store) get(node string) (string, error) {
	data, _, err := s.conn.Get(node)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", node, err)
	}
	return string(data), nil
}

func (s *store) set(node, data string) error {
	if _, err := s.conn.Set(node, []byte(data), -1); err != nil {
		return fmt.Errorf("writing %s: %w", node, err)
	}
	return nil
}

func (s *store) remove(node string) error {
	if err := s.conn.Delete(node, -1); err != nil {
		return fmt.Errorf("deleting %s: %w", node, err)
	}
	return nil
}

// next is the next offset of a partition after what ZooKeeper says was processed last; 0 for nothing.
func (s *store) next(topic, partition string) (int64, error) {
	text, err := s.get(s.directory(topic) + "/" + partition)
	if errors.Is(err, zk.ErrNoNode) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	last, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ZooKeeper holds %q for %s/%s: %w", text, topic, partition, err)
	}
	return last + 1, nil
}

// compare gives every partition of a checkpoint, and what ZooKeeper has of it, to a function, until one is false.
func (s *store) compare(c *cluster.Checkpoint, holds func(next, want int64) bool) (which string, err error) {
	for _, topics := range c.Offsets {
		for topic, partitions := range topics {
			for partition, want := range partitions {
				next, err := s.next(topic, partition)
				if err != nil {
					return "", err
				}
				if !holds(next, want) {
					return fmt.Sprintf("%s/%s: next offset %d in ZooKeeper, %d in checkpoint %d", topic, partition, next, want, c.ID), nil
				}
			}
		}
	}
	return "", nil
}

// published waits until ZooKeeper holds what is complete now, or newer, and checks that it never holds what is not
// complete and that the job is content.
func (s *Scene) published(ctx context.Context) error {
	job, err := s.WaitFor(ctx, s.Job, "committed", patience, func(j *cluster.Job) bool {
		return j.State == running && j.Checkpoints.Latest != nil && j.Checkpoints.Latest.Committed
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	store, err := s.openStore(ctx)
	if err != nil {
		return err
	}
	defer store.close()
	for {
		behind, err := store.compare(job.Checkpoints.Latest, func(next, want int64) bool { return next >= want })
		if err == nil && behind == "" {
			break
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("offsets are not published within %s: %s: %w", patience, behind, errors.Join(err, ctx.Err()))
		}
	}
	return s.neverAhead(ctx, store)
}

// neverAhead takes what ZooKeeper holds before the job says what is complete.
func (s *Scene) neverAhead(ctx context.Context, store *store) error {
	held := map[string]int64{}
	job, err := s.now(ctx)
	if err != nil {
		return err
	}
	for _, topics := range job.Checkpoints.Latest.Offsets {
		for topic, partitions := range topics {
			for partition := range partitions {
				if held[topic+"/"+partition], err = store.next(topic, partition); err != nil {
					return err
				}
			}
		}
	}
	job, err = s.WaitFor(ctx, s.Job, "content with ZooKeeper", patience, func(j *cluster.Job) bool { return !complains(j) })
	if err != nil {
		return err
	}
	for _, topics := range job.Checkpoints.Latest.Offsets {
		for topic, partitions := range topics {
			for partition, complete := range partitions {
				if next := held[topic+"/"+partition]; next > complete {
					return fmt.Errorf("%s/%s: ZooKeeper holds next offset %d before a checkpoint with it is complete; the newest, %d, has %d",
						topic, partition, next, job.LatestID(), complete)
				}
			}
		}
	}
	return nil
}

// complains tells whether a job says that it cannot publish, with all of these words.
func complains(j *cluster.Job, words ...string) bool {
	for _, p := range j.Publications {
		if p.Error != "" && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(p.Error, word) }) {
			return true
		}
	}
	return false
}
