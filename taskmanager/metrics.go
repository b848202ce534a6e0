package taskmanager

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics collects the counters of the running subtasks when it is asked; nothing is counted twice.
type metrics struct {
	tm       *TaskManager
	registry *prometheus.Registry

	recordsIn, recordsOut, bytesIn, bytesOut, skipped, deadLettered, failed, lag, next, slots *prometheus.Desc
}

func newMetrics(tm *TaskManager) *metrics {
	labels := []string{"job", "vertex", "subtask"}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	m := &metrics{
		tm: tm, registry: prometheus.NewRegistry(),
		recordsIn:    desc("sluice_records_in_total", "Records that subtasks of the running attempt took in.", labels...),
		recordsOut:   desc("sluice_records_out_total", "Records that subtasks of the running attempt handed to sinks and other subtasks.", labels...),
		bytesIn:      desc("sluice_bytes_in_total", "Bytes that subtasks of the running attempt took in.", labels...),
		bytesOut:     desc("sluice_bytes_out_total", "Bytes that subtasks of the running attempt handed on.", labels...),
		skipped:      desc("sluice_records_skipped_total", "Records that the error policy skipped.", labels...),
		deadLettered: desc("sluice_records_dead_lettered_total", "Records that went to the dead letters.", labels...),
		failed:       desc("sluice_records_failed_total", "Records that sinks with the guarantee none could not write.", labels...),
		lag:          desc("sluice_lag_records", "Records between the position of a split and its high watermark.", append(labels, "topic", "partition")...),
		next:         desc("sluice_next_offset", "Next offset that a source reads of a partition.", append(labels, "topic", "partition")...),
		slots:        desc("sluice_taskmanager_slots", "Slots that this task manager offers."),
	}
	m.registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Describe is prometheus.Collector's.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.recordsIn, m.recordsOut, m.bytesIn, m.bytesOut, m.skipped, m.deadLettered, m.failed, m.lag, m.next, m.slots} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(m.slots, prometheus.GaugeValue, float64(m.tm.cfg.Slots))
	for _, s := range m.tm.counters() {
		job, vertex, index := m.tm.nameOf(s.attempt.job), s.subtask.Vertex, strconv.Itoa(s.subtask.Index)
		count := func(d *prometheus.Desc, n int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), job, vertex, index)
		}
		count(m.recordsIn, s.recordsIn)
		count(m.recordsOut, s.recordsOut)
		count(m.bytesIn, s.bytesIn)
		count(m.bytesOut, s.bytesOut)
		count(m.skipped, s.recordsSkipped)
		count(m.deadLettered, s.deadLettered)
		count(m.failed, s.recordsFailed)
		for _, l := range s.lag {
			split := []string{job, vertex, index, l.Split.Topic, strconv.Itoa(int(l.Split.Partition))}
			if l.Lag >= 0 { // known
				ch <- prometheus.MustNewConstMetric(m.lag, prometheus.GaugeValue, float64(l.Lag), split...)
			}
			ch <- prometheus.MustNewConstMetric(m.next, prometheus.GaugeValue, float64(l.Next), split...)
		}
	}
}
