package kafka

import (
	"errors"
	"fmt"

	"github.com/sluice-stream/sluice/graph"
)

// CheckJob finds what Check refuses without asking a broker and CheckProperties cannot see, because it takes more of a
// job than the properties of one part. So its author can hear of it before the job is submitted. What CheckProperties
// and graph.Validate find is not told again.
func CheckJob(job *graph.Job) []graph.Problem {
	var found []graph.Problem
	add := func(part graph.Path, properties map[string]string, err error) {
		if fault := (*PropertyError)(nil); errors.As(err, &fault) {
			found = append(found, graph.Problem{Path: part.With("kafka", "properties", fault.Name), Message: fault.Name + ": " + fault.Reason, Hint: fault.Hint,
				Missing: properties[fault.Name] == ""})
		}
	}
	for i := range job.Sources {
		if s := &job.Sources[i]; s.Kafka != nil && (s.Kafka.Properties[propGroup] != "" || !needsGroup(s.Kafka)) {
			add(graph.Path{"sources", s.Name}, s.Kafka.Properties, checkSource(s))
		}
	}
	for i := range job.Sinks {
		s := &job.Sinks[i]
		if s.Kafka == nil {
			continue
		}
		err := checkSink(s.Kafka)
		if cfg, bad := Resolve(graph.KindSink, s.Kafka.Properties); err == nil && bad == nil && s.Kafka.Guarantee == graph.ExactlyOnce {
			err = checkTransactionTimeout(cfg.Produce.TransactionTimeout, job.Checkpoint)
		}
		add(graph.Path{"sinks", s.Name}, s.Kafka.Properties, err)
	}
	return found
}

// checkSink refuses what a new job's sink cannot do. A job that was taken before it was refused goes on as it can.
func checkSink(k *graph.KafkaSink) error {
	if err := checkLegacySink(k); err != nil {
		return err
	}
	cfg, bad := Resolve(graph.KindSink, k.Properties)
	if linger, delivery := cfg.Produce.Linger, cfg.Produce.DeliveryTimeout; bad == nil && linger >= delivery { // what is bad is told by CheckProperties
		return &PropertyError{Name: propLinger, Reason: fmt.Sprintf("%d is not below %s, which is %d and begins with the first record of a batch", linger.Milliseconds(), propDeliveryTimeout, delivery.Milliseconds()),
			Hint: "lower it, or raise " + propDeliveryTimeout}
	}
	return nil
}

// needsGroup says that graph.Validate demands a group.id.
func needsGroup(k *graph.KafkaSource) bool { return k.Mode == graph.ModeGroup || keepsInZooKeeper(k) }
