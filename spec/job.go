package spec

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-stream/sluice/graph"
)

// job reads the whole file. What cannot be read keeps its default.
func (d *decoder) job(root *yaml.Node) *graph.Job {
	j := &graph.Job{Checkpoint: graph.DefaultCheckpointing(), Restart: graph.DefaultRestart()}
	d.places[""] = entry{value: root}
	d.fields(root, nil,
		field{"name", text(d, &j.Name)},
		field{"parallelism", d.integer(&j.Parallelism, 1, graph.MaxSubtasks)},
		field{"maxParallelism", d.integer(&j.MaxParallelism, 1, graph.MaxKeyGroups)},
		field{"checkpoint", d.checkpoint(&j.Checkpoint)},
		field{"restart", d.restart(&j.Restart)},
		field{"sources", d.sources(&j.Sources)},
		field{"operators", d.operators(&j.Operators)},
		field{"sinks", d.sinks(&j.Sinks)},
	)
	return j
}

func (d *decoder) checkpoint(c *graph.Checkpointing) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.fields(n, path,
			field{"interval", d.duration(&c.Interval, 0)},
			field{"timeout", d.duration(&c.Timeout, graph.MinInterval)},
			field{"minPause", d.duration(&c.MinPause, 0)},
			field{"retain", d.integer(&c.Retain, 1, graph.MaxRetain)},
			field{"tolerableFailures", d.integer(&c.TolerableFailures, 0, graph.MaxRetain)},
		)
	}
}

func (d *decoder) restart(r *graph.Restart) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.fields(n, path,
			field{"strategy", text(d, &r.Strategy)},
			field{"initial", d.duration(&r.Initial, 0)},
			field{"max", d.duration(&r.Max, 0)},
			field{"attempts", d.integer(&r.Attempts, 0, graph.MaxAttempts)},
			field{"healthyAfter", d.duration(&r.HealthyAfter, 0)},
		)
	}
}

func (d *decoder) sources(dst *[]graph.Source) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.entries(n, path, func(key, value *yaml.Node, at graph.Path) {
			s := graph.Source{Name: key.Value}
			d.fields(value, at,
				field{"parallelism", d.integer(&s.Parallelism, 1, graph.MaxSubtasks)},
				field{"kafka", d.kafkaSource(&s.Kafka)},
			)
			*dst = append(*dst, s)
		})
	}
}

func (d *decoder) kafkaSource(dst **graph.KafkaSource) setter {
	return func(n *yaml.Node, path graph.Path) {
		k := &graph.KafkaSource{}
		*dst = k
		d.fields(n, path,
			field{"topics", d.texts(&k.Topics, "a list of topics")},
			field{"topicPattern", text(d, &k.TopicPattern)},
			field{"partitions", d.partitions(&k.Partitions)},
			field{"mode", text(d, &k.Mode)},
			field{"startup", d.startup(&k.Startup)},
			field{"bounded", d.bounded(&k.Bounded)},
			field{"offsets", d.offsetStorage(k)},
			field{"until", d.expression(&k.Until)},
			field{"onError", d.onError(&k.OnError)},
			field{"format", text(d, &k.Format)},
			field{"keyFormat", text(d, &k.KeyFormat)},
			field{"properties", d.properties(&k.Properties)},
		)
	}
}

func (d *decoder) texts(dst *[]string, want string) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.list(n, path, want, func(element *yaml.Node, at graph.Path) {
			var s string
			text(d, &s)(element, at)
			if s != "" || len(n.Content) > 1 { // indexes stay what they are
				*dst = append(*dst, s)
			}
		})
	}
}

// oneOf reads a field that is a word or a mapping with exactly one of some fields; the name of that
// field is then the word.
func oneOf[T ~string](d *decoder, dst *T, forms ...field) setter {
	names := make([]string, len(forms))
	for i, f := range forms {
		names[i] = f.name
	}
	example := "{" + names[0] + ": …}"
	return func(n *yaml.Node, path graph.Path) {
		if n.Kind == yaml.SequenceNode {
			d.wrong(n, path, "", "a word or "+example)
			return
		}
		if n.Kind != yaml.MappingNode {
			var word T
			text(d, &word)(n, path)
			if slices.Contains(names, string(word)) {
				d.fault(n, path, "write {"+string(word)+": …}", "%s needs a value", string(word))
				return
			}
			*dst = word
			return
		}
		switch found := d.fields(n, path, forms...); {
		case len(found) == 1:
			*dst = T(found[0])
		case len(found) > 1:
			d.fault(n, path, "", "%s exclude each other", strings.Join(found, " and "))
		case len(n.Content) == 0:
			d.fault(n, path, "", "the mapping is empty, want a word or %s", example)
		}
	}
}

func (d *decoder) startup(s *graph.Startup) setter {
	return oneOf(d, &s.Mode, field{"timestamp", d.time(&s.Timestamp)}, field{"offsets", d.offsets(&s.Offsets)})
}

func (d *decoder) bounded(b *graph.Bound) setter {
	return oneOf(d, &b.Mode, field{"timestamp", d.time(&b.Timestamp)}, field{"offsets", d.offsets(&b.Offsets)})
}

func (d *decoder) offsetStorage(k *graph.KafkaSource) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.fields(n, path, field{"storage", text(d, &k.Offsets)}, field{"meaning", text(d, &k.OffsetsMeaning)})
	}
}

// partitions reads topic → a list of partition numbers.
func (d *decoder) partitions(dst *map[string][]int32) setter {
	return func(n *yaml.Node, path graph.Path) {
		*dst = map[string][]int32{}
		d.entries(n, path, func(topic, list *yaml.Node, at graph.Path) {
			(*dst)[topic.Value] = nil
			d.list(list, at, "a list of partition numbers", func(element *yaml.Node, at graph.Path) {
				if p, ok := d.number(element, at, 0, math.MaxInt32); ok {
					(*dst)[topic.Value] = append((*dst)[topic.Value], int32(p))
				}
			})
		})
	}
}

func (d *decoder) onError(dst *graph.OnError) setter {
	return oneOf(d, &dst.Policy, field{"deadLetter", text(d, &dst.DeadLetterTopic)})
}

// offsets reads topic → partition → offset.
func (d *decoder) offsets(dst *map[string]map[int32]int64) setter {
	return func(n *yaml.Node, path graph.Path) {
		*dst = map[string]map[int32]int64{}
		d.entries(n, path, func(topic, partitions *yaml.Node, at graph.Path) {
			table := map[int32]int64{}
			(*dst)[topic.Value] = table
			d.entries(partitions, at, func(key, value *yaml.Node, at graph.Path) {
				partition, err := strconv.ParseInt(key.Value, 10, 32)
				if err != nil || strconv.FormatInt(partition, 10) != key.Value || partition < 0 {
					d.fault(key, at, "", "%.80q is no partition number", key.Value)
					return
				}
				if offset, ok := d.number(value, at, 0, math.MaxInt64); ok {
					table[int32(partition)] = offset
				}
			})
		})
	}
}

func (d *decoder) operators(dst *[]graph.Operator) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.entries(n, path, func(key, value *yaml.Node, at graph.Path) {
			o := graph.Operator{Name: key.Value}
			d.fields(value, at,
				field{"parallelism", d.integer(&o.Parallelism, 1, graph.MaxSubtasks)},
				field{"from", d.from(&o.From)},
				field{"keyBy", d.expression(&o.KeyBy)},
				field{"filter", d.expression(&o.Filter)},
				field{"map", d.mapVerb(&o.Map)},
				field{"flatMap", d.expression(&o.FlatMap)},
				field{"count", d.empty(func() { o.Count = true })},
			)
			*dst = append(*dst, o)
		})
	}
}

// from reads a name or a list of names.
func (d *decoder) from(dst *[]string) setter {
	return func(n *yaml.Node, path graph.Path) {
		if n.Kind == yaml.SequenceNode {
			d.texts(dst, "")(n, path)
			return
		}
		var name string
		text(d, &name)(n, path)
		if name != "" {
			*dst = []string{name}
		}
	}
}

func (d *decoder) mapVerb(dst **graph.Map) setter {
	return func(n *yaml.Node, path graph.Path) {
		m := &graph.Map{}
		*dst = m
		d.fields(n, path,
			field{"key", d.expression(&m.Key)},
			field{"value", d.expression(&m.Value)},
			field{"headers", d.expression(&m.Headers)},
			field{"timestamp", d.expression(&m.Timestamp)},
		)
	}
}

// empty reads {}: something without settings of its own.
func (d *decoder) empty(set func()) setter {
	return func(n *yaml.Node, path graph.Path) {
		set()
		d.entries(n, path, func(key, _ *yaml.Node, at graph.Path) {
			d.fault(key, at, "write {}", "unknown field %.80q; there are none here", key.Value)
		})
	}
}

func (d *decoder) sinks(dst *[]graph.Sink) setter {
	return func(n *yaml.Node, path graph.Path) {
		d.entries(n, path, func(key, value *yaml.Node, at graph.Path) {
			s := graph.Sink{Name: key.Value}
			d.fields(value, at,
				field{"parallelism", d.integer(&s.Parallelism, 1, graph.MaxSubtasks)},
				field{"from", d.from(&s.From)},
				field{"keyBy", d.expression(&s.KeyBy)},
				field{"kafka", d.kafkaSink(&s.Kafka)},
				field{"print", d.empty(func() { s.Print = &graph.PrintSink{} })},
			)
			*dst = append(*dst, s)
		})
	}
}

func (d *decoder) kafkaSink(dst **graph.KafkaSink) setter {
	return func(n *yaml.Node, path graph.Path) {
		k := &graph.KafkaSink{}
		*dst = k
		d.fields(n, path,
			field{"topic", text(d, &k.Topic)},
			field{"topicExpression", d.expression(&k.TopicExpression)},
			field{"guarantee", text(d, &k.Guarantee)},
			field{"transactionalIdPrefix", text(d, &k.TransactionalIDPrefix)},
			field{"partitioner", oneOf(d, &k.Partitioner, field{"expression", d.expression(&k.PartitionerExpression)})},
			field{"properties", d.properties(&k.Properties)},
		)
	}
}
