package kafka

const (
	propSessionTimeout = "session.timeout.ms"
	propHeartbeat      = "heartbeat.interval.ms"
)

// groupProperties are for sources of mode group alone. The table is never changed.
var groupProperties = []Property{
	source(Property{Name: propSessionTimeout, Type: Millis, Min: 1000, Max: hourMs, Default: "10000", Doc: "only with mode: group: a member that is silent for so long is taken for dead, and its partitions go to others; within the brokers' group.min.session.timeout.ms (6000) and group.max.session.timeout.ms"}),
	source(Property{Name: propHeartbeat, Type: Millis, Min: 100, Max: hourMs, Default: "3000", Doc: "only with mode: group: time between two signs of life, at most half of session.timeout.ms"}),
}

// group judges what the properties of a group's members mean to each other.
func (c *checker) group() {
	session, heartbeat := numberOf(c.properties, propSessionTimeout), numberOf(c.properties, propHeartbeat)
	if (c.has(propSessionTimeout) || c.has(propHeartbeat)) && heartbeat > session/2 {
		c.add(propHeartbeat, "lower it, or raise "+propSessionTimeout, "%d ms is more than half of the %s of %d ms: one late heartbeat would cost the member its partitions", heartbeat, propSessionTimeout, session)
	}
}
