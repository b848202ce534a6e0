package graph

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// topicName is what Kafka allows (Topic.java: legal characters, at most 249).
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// idPrefix has no slash: that separates the parts of a transactional id.
var idPrefix = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,64}$`)

func (v *validator) topic(path Path, name string) {
	switch {
	case name == "":
		v.missing(path, "", "the topic name is empty")
	case !topicName.MatchString(name) || name == "." || name == "..":
		v.add(path, "want 1 to 249 of A-Z a-z 0-9 . _ -", "topic name %.260q is not allowed", name)
	}
}

func (v *validator) source(s *Source) {
	path := Path{"sources", s.Name}
	k := s.Kafka
	if k == nil {
		v.missing(path, "add kafka: with topics and properties", "source %s does not say what it reads", s.Name)
		return
	}
	path = path.With("kafka")
	v.topics(path, k)
	startup := []StartupMode{StartCommitted, StartEarliest, StartLatest, StartTimestamp, StartOffsets}
	choice(v, path.With("startup"), k.Startup.Mode, startup...)
	choice(v, path.With("bounded"), k.Bounded.Mode, BoundNone, BoundLatest, BoundTimestamp, BoundOffsets)
	v.offsets(path.With("startup", "offsets"), k, k.Startup.Mode == StartOffsets, k.Startup.Offsets)
	v.offsets(path.With("bounded", "offsets"), k, k.Bounded.Mode == BoundOffsets, k.Bounded.Offsets)
	if k.Startup.Mode == StartTimestamp && k.Startup.Timestamp.UnixMilli() < 0 {
		v.add(path.With("startup", "timestamp"), "", "%v is before 1970", k.Startup.Timestamp)
	}
	if k.Bounded.Mode == BoundTimestamp && k.Bounded.Timestamp.UnixMilli() < 0 {
		v.add(path.With("bounded", "timestamp"), "", "%v is before 1970", k.Bounded.Timestamp)
	}
	choice(v, path.With("mode"), k.Mode, ModeAssigned, ModeGroup)
	choice(v, path.With("offsets", "meaning"), k.OffsetsMeaning, MeansLast, MeansNext)
	choice(v, path.With("offsets", "storage"), k.Offsets, OffsetsKafka, OffsetsZooKeeper, OffsetsBoth, OffsetsNone)
	v.publishing(path, k)
	choice(v, path.With("onError"), k.OnError.Policy, Fail, Skip, DeadLetter)
	if k.OnError.Policy == DeadLetter {
		at := path.With("onError", "deadLetter")
		v.topic(at, k.OnError.DeadLetterTopic)
		if ownTopic(s) {
			v.add(at, "name a topic that the source does not read", "the source reads topic %.260q itself, so its dead letters would come back for ever", k.OnError.DeadLetterTopic)
		}
	}
	choice(v, path.With("format"), k.Format, Bytes, String, JSON)
	choice(v, path.With("keyFormat"), k.KeyFormat, Bytes, String, JSON)
}

func (v *validator) topics(path Path, k *KafkaSource) {
	var given []string
	for _, form := range []struct {
		name string
		used bool
	}{{"topics", len(k.Topics) > 0}, {"topicPattern", k.TopicPattern != ""}, {"partitions", len(k.Partitions) > 0}} {
		if form.used {
			given = append(given, form.name)
		}
	}
	switch {
	case len(given) == 0:
		v.missing(path, "add topics: [NAME], topicPattern or partitions", "the source names no topics")
	case len(given) > 1:
		v.add(path.With(given[len(given)-1]), "keep one of them", "%s exclude each other", strings.Join(given, " and "))
	}
	v.partitions(path.With("partitions"), k.Partitions)
	seen := map[string]bool{}
	for i, t := range k.Topics {
		at := path.With("topics", strconv.Itoa(i))
		v.topic(at, t)
		if seen[t] {
			v.add(at, "", "topic %.260q is named twice", t)
		}
		seen[t] = true
	}
	if _, err := regexp.Compile(k.TopicPattern); err != nil {
		v.add(path.With("topicPattern"), "want a regular expression in RE2 syntax, it has to match the whole name", "%s", err)
	}
}

// partitions checks a fixed set of partitions.
func (v *validator) partitions(path Path, set map[string][]int32) {
	for _, topic := range slices.Sorted(maps.Keys(set)) {
		at := path.With(topic)
		v.topic(at, topic)
		if len(set[topic]) == 0 {
			v.missing(at, "want a list of numbers, such as [0, 1]", "no partitions are given")
		}
		seen := map[int32]bool{}
		for i, p := range set[topic] {
			switch at := at.With(strconv.Itoa(i)); {
			case p < 0:
				v.add(at, "", "partition %d is negative", p)
			case seen[p]:
				v.add(at, "", "partition %d is named twice", p)
			}
			seen[p] = true
		}
	}
}

// offsets checks a table of explicit offsets: each topic is one that the source reads.
func (v *validator) offsets(path Path, k *KafkaSource, wanted bool, table map[string]map[int32]int64) {
	if !wanted {
		return
	}
	if len(table) == 0 {
		v.missing(path, "want TOPIC: {PARTITION: OFFSET}", "no offsets are given")
	}
	pattern, err := regexp.Compile(`^(?:` + k.TopicPattern + `)$`)
	for _, topic := range slices.Sorted(maps.Keys(table)) {
		at := path.With(topic)
		switch {
		case k.TopicPattern != "" && err == nil && !pattern.MatchString(topic):
			v.add(at, "", "topic %.260q does not match topicPattern", topic)
		case len(k.Partitions) > 0 && k.Partitions[topic] == nil:
			v.add(at, DidYouMean(topic, slices.Sorted(maps.Keys(k.Partitions))), "topic %.260q is not in partitions", topic)
		case k.TopicPattern == "" && len(k.Topics) > 0 && !slices.Contains(k.Topics, topic):
			v.add(at, DidYouMean(topic, k.Topics), "topic %.260q is not in topics", topic)
		}
		for _, partition := range slices.Sorted(maps.Keys(table[topic])) {
			offset := table[topic][partition]
			if partition < 0 || offset < 0 {
				v.add(at.With(strconv.Itoa(int(partition))), "", "partition %d, offset %d: neither can be negative", partition, offset)
			}
			if set := k.Partitions[topic]; len(set) > 0 && !slices.Contains(set, partition) {
				v.add(at.With(strconv.Itoa(int(partition))), "add it there or remove it here", "partition %d of topic %.260s is not in partitions", partition, topic)
			}
		}
	}
}

func (v *validator) sink(s *Sink) {
	path := Path{"sinks", s.Name}
	switch {
	case s.Kafka == nil && s.Print == nil:
		v.missing(path, "add kafka: or print: {}", "sink %s does not say where it writes", s.Name)
	case s.Kafka != nil && s.Print != nil:
		v.add(path, "make it two sinks", "sink %s has kafka and print, want exactly one", s.Name)
	}
	if s.Kafka == nil {
		return
	}
	k, path := s.Kafka, path.With("kafka")
	switch {
	case k.Topic == "" && k.TopicExpression == "":
		v.missing(path, "add topic: NAME or topicExpression", "the sink names no topic")
	case k.Topic != "" && k.TopicExpression != "":
		v.add(path.With("topicExpression"), "keep one of them", "topic and topicExpression exclude each other")
	}
	if k.Topic != "" {
		v.topic(path.With("topic"), k.Topic)
	}
	choice(v, path.With("guarantee"), k.Guarantee, ExactlyOnce, AtLeastOnce, NoGuarantee)
	if k.Guarantee == ExactlyOnce && v.job.Checkpoint.Interval == 0 {
		v.add(path.With("guarantee"), "set checkpoint.interval, such as 1s", "exactly-once needs checkpoints, and they are off")
	}
	switch at := path.With("transactionalIdPrefix"); {
	case !idPrefix.MatchString(k.TransactionalIDPrefix):
		v.add(at, "want at most 64 of A-Z a-z 0-9 . _ -", "prefix %.80q is not allowed", k.TransactionalIDPrefix)
	case k.TransactionalIDPrefix != "" && k.Guarantee != ExactlyOnce:
		v.add(at, "set guarantee: exactly-once or remove it", "only exactly-once sinks have transactional ids")
	}
	choice(v, path.With("partitioner"), k.Partitioner, ByKey, Fixed, RoundRobin, Preserve, ByExpression)
	switch given := k.PartitionerExpression != ""; {
	case k.Partitioner == ByExpression && !given:
		v.missing(path.With("partitioner"), "want partitioner: {expression: CEL}", "the partitioner has no expression")
	case k.Partitioner != ByExpression && given:
		v.add(path.With("partitioner"), "want partitioner: {expression: CEL}", "partitioner %s takes no expression", k.Partitioner)
	}
}

// checkProperties asks about the Kafka properties of every source and sink. What an error is about is
// found by its Property method or, failing that, by the longest name that its text holds.
func checkProperties(job *Job, check func(Kind, map[string]string) []error) []Problem {
	var found []Problem
	ask := func(role Kind, path Path, properties map[string]string) {
		for _, joined := range check(role, properties) {
			for _, err := range flatten(joined) {
				at := path.With("kafka", "properties")
				if name := propertyOf(err, properties); name != "" {
					at = at.With(name)
				}
				found = append(found, describe(err, at))
			}
		}
	}
	for i := range job.Sources {
		if s := &job.Sources[i]; s.Kafka != nil {
			ask(KindSource, Path{"sources", s.Name}, s.Kafka.Properties)
		}
	}
	for i := range job.Sinks {
		if s := &job.Sinks[i]; s.Kafka != nil {
			ask(KindSink, Path{"sinks", s.Name}, s.Kafka.Properties)
		}
	}
	return found
}

func propertyOf(err error, properties map[string]string) string {
	var named interface{ Property() string }
	if errors.As(err, &named) {
		return named.Property()
	}
	longest := ""
	for name := range properties {
		if len(name) > len(longest) && strings.Contains(err.Error(), name) {
			longest = name
		}
	}
	return longest
}
