package graph

// SetDefaults fills in what the author left out. Numbers and durations for which zero is a meaning of
// its own are filled in only when the whole part they belong to is empty.
func (j *Job) SetDefaults() {
	fill(&j.Parallelism, 1)
	fill(&j.MaxParallelism, DefaultMaxParallelism)
	fill(&j.Checkpoint, DefaultCheckpointing())
	fill(&j.Checkpoint.Timeout, DefaultCheckpointing().Timeout)
	fill(&j.Checkpoint.Retain, DefaultCheckpointing().Retain)
	fill(&j.Restart, DefaultRestart())
	fill(&j.Restart.Strategy, ExponentialDelay)
	for i := range j.Sources {
		if k := j.Sources[i].Kafka; k != nil {
			k.setDefaults()
		}
	}
	for i := range j.Sinks {
		if k := j.Sinks[i].Kafka; k != nil {
			k.setDefaults()
		}
	}
}

func (k *KafkaSource) setDefaults() {
	fill(&k.Mode, ModeAssigned)
	fill(&k.OffsetsMeaning, MeansLast)
	fill(&k.Startup.Mode, StartCommitted)
	fill(&k.Bounded.Mode, BoundNone)
	fill(&k.Offsets, OffsetsKafka)
	fill(&k.OnError.Policy, Fail)
	fill(&k.Format, Bytes)
	fill(&k.KeyFormat, Bytes)
}

func (k *KafkaSink) setDefaults() {
	fill(&k.Guarantee, AtLeastOnce)
	fill(&k.Partitioner, ByKey)
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
