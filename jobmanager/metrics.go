package jobmanager

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics shows jobs, slots and checkpoints. What is a state is collected when it is asked for; what is an
// event is counted where it happens.
type metrics struct {
	m        *Manager
	registry *prometheus.Registry

	droppedMessages    *prometheus.CounterVec
	checkpointDuration *prometheus.HistogramVec

	jobState, restarts, needed, held, waitingSeconds, completed, failed, age, size *prometheus.Desc
	slotsByState, workers, epoch                                                   *prometheus.Desc

	checkpointOffset, partitionsFound, partitionsSetAside, discoveryFailures *prometheus.Desc

	uncommitted, commitLag, unfenced, idsRecent *prometheus.Desc

	publishAge, broken *prometheus.Desc
	idsMade            *prometheus.CounterVec
}

func newMetrics(m *Manager) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	out := &metrics{
		m: m, registry: prometheus.NewRegistry(),
		droppedMessages: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_messages_dropped_total", Help: "Messages of task managers that were late, repeated or of an old attempt."}, []string{"reason"}),
		checkpointDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "sluice_checkpoint_duration_seconds", Help: "From the trigger of a checkpoint to its durability.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}, []string{"job"}),
		jobState:           desc("sluice_job_state", "1 for the state that the job is in.", "job", "state"),
		restarts:           desc("sluice_job_restarts_total", "Restarts of the job.", "job"),
		needed:             desc("sluice_job_slots_needed", "Slots that the job needs.", "job"),
		held:               desc("sluice_job_slots_held", "Slots that the job holds.", "job"),
		waitingSeconds:     desc("sluice_job_waiting_for_slots_seconds", "How long the job has been waiting for slots; 0 when it is not.", "job"),
		completed:          desc("sluice_checkpoints_completed_total", "Completed checkpoints.", "job"),
		failed:             desc("sluice_checkpoints_failed_total", "Checkpoints that were triggered and did not complete.", "job"),
		age:                desc("sluice_checkpoint_age_seconds", "Time since the latest checkpoint was completed.", "job"),
		size:               desc("sluice_checkpoint_size_bytes", "State in the latest checkpoint.", "job"),
		slotsByState:       desc("sluice_slots", "Slots of the cluster by state: free or held.", "state"),
		workers:            desc("sluice_taskmanagers", "Task managers by state.", "state"),
		checkpointOffset:   desc("sluice_checkpoint_offset", "Next offset to read of a partition in the latest checkpoint.", "job", "source", "topic", "partition"),
		partitionsFound:    desc("sluice_partitions_found_total", "Partitions that were found while the job ran, and are read since.", "job"),
		partitionsSetAside: desc("sluice_partitions_set_aside_total", "Partitions of a pattern that were set aside, as their topic was gone for an hour.", "job"),
		discoveryFailures:  desc("sluice_partition_discovery_failures_total", "Searches for new partitions that failed; each is repeated.", "job"),
		uncommitted:        desc("sluice_transactions_uncommitted", "Transactions of completed checkpoints that are not committed yet.", "job"),
		commitLag:          desc("sluice_commit_lag_seconds", "Age of the oldest of them; 0: none.", "job"),
		unfenced:           desc("sluice_transactional_ids_unfenced", "Transactional ids of ended attempts that are not fenced for good.", "job"),
		idsRecent:          desc("sluice_transactional_ids_last_7_days", "Transactional ids made in the last 7 days, as long as brokers remember them; too many of them hurt brokers."),
		idsMade:            prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sluice_transactional_ids_made_total", Help: "Transactional ids made since the job manager started."}, []string{"job"}),
		publishAge:         desc("sluice_offsets_publish_age_seconds", "Time since the offsets of a source were last published to a storage, kafka or zookeeper, or since the job manager took the job up.", "job", "source", "storage"),
		broken:             desc("sluice_job_broken", "1 if the job manager does not run the job although it has not ended.", "job"),
		epoch:              desc("sluice_leader_epoch", "Number of starts of the job manager on this data directory."),
	}
	out.registry.MustRegister(out, out.droppedMessages, out.checkpointDuration, out.idsMade, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return out
}

func (c *metrics) dropped(reason string) { c.droppedMessages.WithLabelValues(reason).Inc() }

// Metrics is the registry for /metrics.
func (m *Manager) Metrics() *prometheus.Registry { return m.metrics.registry }

// Describe is prometheus.Collector's.
func (c *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.jobState, c.restarts, c.needed, c.held, c.waitingSeconds, c.completed, c.failed, c.age, c.size, c.slotsByState, c.workers, c.epoch,
		c.checkpointOffset, c.partitionsFound, c.partitionsSetAside, c.discoveryFailures, c.uncommitted, c.commitLag, c.unfenced, c.idsRecent, c.publishAge, c.broken} {
		ch <- d
	}
}

// Collect is prometheus.Collector's. Of several jobs of one name only the newest is shown.
func (c *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	seen := map[string]bool{}
	for _, r := range c.m.jobs() {
		if !seen[r.name] {
			seen[r.name] = true
			c.collectJob(ch, r)
		}
	}
	t := c.m.scheduler.totals()
	gauge(c.slotsByState, float64(t.Free), "free")
	gauge(c.slotsByState, float64(t.Held), "held")
	states := map[string]int{"CONNECTED": 0, "SUSPENDED": 0, "LOST": 0}
	for _, w := range c.m.sessions.list() {
		states[w.State]++
	}
	for s, n := range states {
		gauge(c.workers, float64(n), s)
	}
	gauge(c.epoch, float64(c.m.epoch))
	gauge(c.idsRecent, float64(c.m.ids.recent(time.Now())))
}

func (c *metrics) collectJob(ch chan<- prometheus.Metric, r *runner) {
	v := r.view()
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, append([]string{v.name}, labels...)...)
	}
	count := func(d *prometheus.Desc, x float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, x, v.name)
	}
	gauge(c.jobState, 1, string(v.state))
	broken := 0.0
	if v.broken != "" {
		broken = 1
	}
	gauge(c.broken, broken)
	count(c.restarts, float64(v.restarts))
	gauge(c.needed, float64(v.plan.Slots))
	gauge(c.held, float64(len(v.slots)))
	waiting := 0.0
	if e, ok := c.m.scheduler.explain(v.id); ok {
		waiting = e.For.Seconds()
	}
	gauge(c.waitingSeconds, waiting)
	count(c.completed, float64(v.checkpoints.Completed))
	count(c.failed, float64(v.checkpoints.Failed))
	if l := v.checkpoints.Latest; l != nil && l.Checkpoint > 0 {
		if !v.state.Terminal() { // that of an ended job would rise for ever
			gauge(c.age, time.Since(l.CompletedAt).Seconds())
		}
		gauge(c.size, float64(l.SizeBytes()))
	}
	if l := v.checkpoints.Latest; l != nil && !v.state.Terminal() {
		for _, p := range l.Positions {
			gauge(c.checkpointOffset, float64(p.Next), p.Source, p.Topic, strconv.Itoa(int(p.Partition)))
		}
	}
	count(c.partitionsFound, float64(v.discovery.Found))
	count(c.partitionsSetAside, float64(v.discovery.SetAside))
	count(c.discoveryFailures, float64(v.discovery.Failures))
	if v.damage == "" { // else it is not known
		gauge(c.uncommitted, float64(v.commits.Uncommitted))
		lag := 0.0
		if !v.commits.Since.IsZero() {
			lag = time.Since(v.commits.Since).Seconds()
		}
		gauge(c.commitLag, lag)
		gauge(c.unfenced, float64(v.commits.Unfenced))
	}
	if v.state.Terminal() {
		return // nothing of it is published any more
	}
	for _, p := range v.publications {
		since := p.At
		if since.IsZero() {
			since = v.publicationsFrom
		}
		gauge(c.publishAge, time.Since(since).Seconds(), p.Source, string(p.Storage))
	}
}
