package graph

// The properties that mean something in mode group alone, and one that means nothing there.
const (
	propSessionTimeout = "session.timeout.ms"
	propHeartbeat      = "heartbeat.interval.ms"
	propDiscovery      = "partition.discovery.interval.ms"
)

// inGroup says that the source is of mode group.
func (s *Source) inGroup() bool { return s.Kafka != nil && s.Kafka.Mode == ModeGroup }

// groups checks what goes with sources of mode group: Kafka's consumer group gives them partitions and keeps their
// offsets, so nothing else may.
func (v *validator) groups() {
	for i := range v.job.Sources {
		s := &v.job.Sources[i]
		switch path := (Path{"sources", s.Name, "kafka"}); {
		case s.inGroup():
			v.inGroup(path, s.Kafka)
		case s.Kafka != nil:
			for _, name := range []string{propSessionTimeout, propHeartbeat} {
				if _, given := s.Kafka.Properties[name]; given {
					v.add(path.With("properties", name), "remove it, or set mode: group", "it has no effect with mode: assigned, where sources are no members of a group")
				}
			}
		}
	}
	for i := range v.net.parts {
		v.belowGroup(i)
	}
}

// inGroup refuses what somebody else decides in mode group.
func (v *validator) inGroup(path Path, k *KafkaSource) {
	if k.Properties[propGroup] == "" {
		v.missing(path.With("properties", propGroup), "add it to properties", "mode: group needs %s", propGroup)
	}
	const assigned = "remove it, or use mode: assigned"
	if k.Startup.Mode != StartCommitted {
		v.add(path.With("startup"), assigned+"; auto.offset.reset says where a new group begins", "mode: group begins where the group has committed, not at %s", k.Startup.Mode)
	}
	if k.Bounded.Mode != BoundNone {
		v.add(path.With("bounded"), assigned, "a source of mode: group has no end: which partitions it reads changes while it runs")
	}
	if k.Until != "" {
		v.add(path.With("until"), assigned, "a source of mode: group has no end: which partitions it reads changes while it runs")
	}
	if len(k.Partitions) > 0 {
		v.add(path.With("partitions"), "name topics, or use mode: assigned", "with mode: group it is the group that gives partitions")
	}
	if k.Offsets != OffsetsKafka {
		v.add(path.With("offsets", "storage"), "remove it, or use mode: assigned", "mode: group commits to Kafka, where its group keeps them, and nowhere else, so %s is not possible", k.Offsets)
	}
	for _, p := range [][2]string{
		{propDiscovery, "new partitions are found by the group itself, within 10 s"},
		{propZooKeeper, "mode: group uses no ZooKeeper"},
	} {
		if _, given := k.Properties[p[0]]; given {
			v.add(path.With("properties", p[0]), "remove it", "%s", p[1])
		}
	}
}

// belowGroup refuses an exactly-once sink of a source in a group.
func (v *validator) belowGroup(i int) {
	p := &v.net.parts[i]
	if p.node.Kind != KindSink || p.node.Sink.Kafka == nil || p.node.Sink.Kafka.Guarantee != ExactlyOnce {
		return
	}
	for _, above := range v.net.sources[i] {
		if s := v.net.parts[above].node.Source; s.inGroup() {
			v.add(p.path.With("kafka", "guarantee"), "set guarantee: at-least-once, or mode: assigned in source "+s.Name,
				"exactly-once is not possible: source %s is of mode group, its offsets are committed outside of checkpoints, so records come again after a failure", s.Name)
		}
	}
}

// groupWarnings says what a source of mode group does not promise.
func groupWarnings(job *Job, p *problems) {
	for i := range job.Sources {
		if s := &job.Sources[i]; s.inGroup() {
			p.add(Path{"sources", s.Name, "kafka", "mode"}, "use mode: assigned for more",
				"mode group: no part in checkpoints; at-least-once at best: after a crash, and when partitions move, records since the last commit come again")
		}
	}
}
