package kafka

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-stream/sluice/graph"
)

// PropertyError is a property that cannot be taken. Neither its text nor its parts hold a secret.
type PropertyError struct {
	Name string
	// Reason says what is wrong, with the value where that is no secret, Hint the way out.
	Reason, Hint string
}

// Error names the property, the reason and the way out.
func (e *PropertyError) Error() string {
	if e.Hint == "" {
		return e.Name + ": " + e.Reason
	}
	return e.Name + ": " + e.Reason + "; " + e.Hint
}

// Property is the name of the property, for those who know where it stands.
func (e *PropertyError) Property() string { return e.Name }

// FailureClass says that the job is the cause.
func (e *PropertyError) FailureClass() string { return "user" }

// shownBytes bounds the values that errors show.
const shownBytes = 80

// CheckProperties judges the properties of a source or sink without asking anybody. References to
// secrets are checked for their form only, because they mean something where they are used.
func CheckProperties(kind graph.Kind, properties map[string]string) []error {
	c := checker{kind: kind, properties: properties}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		c.one(name, properties[name])
	}
	c.together()
	return c.found
}

type checker struct {
	kind       graph.Kind
	properties map[string]string
	found      []error
}

func (c *checker) add(name, hint, format string, args ...any) {
	c.found = append(c.found, &PropertyError{Name: name, Reason: fmt.Sprintf(format, args...), Hint: hint})
}

func (c *checker) one(name, value string) {
	if reason, ok := refusal(name); ok {
		c.add(name, "", "%s", reason)
		return
	}
	p, ok := findProperty(name)
	if !ok { // the value may be a secret under a misspelt name, so it is not shown
		c.add(name, orSeeAll(graph.DidYouMean(name, c.names())), "%.*q is no property of a Kafka %s", shownBytes, name, c.kind)
		return
	}
	if !p.appliesTo(c.kind) {
		c.add(name, "remove it", "it is a property of a %s, this is a %s", p.Role(), c.kind)
		return
	}
	if err := p.check(value); err != nil {
		c.found = append(c.found, err)
	}
}

func orSeeAll(hint string) string {
	if hint == "" {
		return "`sluice properties` lists all"
	}
	return hint
}

func (c *checker) names() []string {
	var names []string
	for _, p := range Properties() {
		if p.appliesTo(c.kind) {
			names = append(names, p.Name)
		}
	}
	return names
}

// check judges a value by itself.
func (p *Property) check(value string) error {
	fault := func(hint, format string, args ...any) error {
		return &PropertyError{Name: p.Name, Reason: fmt.Sprintf(format, args...), Hint: hint}
	}
	switch p.Type {
	case Secret:
		if !isReference(value) {
			return fault(referenceHint, "the value stands in the job file")
		}
		return nil
	case Choice:
		if !slices.Contains(p.Values, value) {
			if p.Name == propBrokerVersion {
				return brokerVersionFault(value)
			}
			hint := graph.DidYouMean(value, p.Values)
			if now, ok := formerValues[value]; ok && p.Name == propReset {
				hint = "write " + now
			}
			return fault(hint, "%.*q is unknown, want %s", shownBytes, value, strings.Join(p.Values, " | "))
		}
		return nil
	case Integer, Millis, SizeBytes:
		return p.checkNumber(value)
	case Servers:
		return checkServers(value)
	}
	switch {
	case p.Name == propJAAS:
		return checkJAAS(value)
	case p.Name == propZooKeeper:
		return checkZooKeeper(value)
	case strings.Contains(value, "${") && !slices.Contains([]string{propUsername, propZooKeeperUsername, propRack}, p.Name):
		return fault("write it out", "references are for secrets only")
	case strings.Contains(value, "${") && !isReference(value):
		return fault(referenceHint, "the reference is not complete")
	case value == "":
		return fault("give a value or remove it", "the value is empty")
	}
	return nil
}

func (p *Property) checkNumber(value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	unit := map[Type]string{Millis: " milliseconds", SizeBytes: " bytes"}[p.Type]
	hint := fmt.Sprintf("want %d to %d%s", p.Min, p.Max, unit)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return &PropertyError{Name: p.Name, Reason: fmt.Sprintf("%.*q is not a whole number", shownBytes, value), Hint: hint}
	}
	if err != nil || n < p.Min || n > p.Max {
		return &PropertyError{Name: p.Name, Reason: fmt.Sprintf("%.*s is out of range", shownBytes, value), Hint: hint}
	}
	return nil
}

func splitServers(value string) []string {
	var out []string
	for _, a := range strings.Split(value, ",") {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, a)
		}
	}
	return out
}

func checkServers(value string) error {
	servers := splitServers(value)
	if len(servers) == 0 {
		return &PropertyError{Name: propBootstrap, Reason: "no broker is named", Hint: "want host:port, separated by commas"}
	}
	for _, a := range servers {
		host, port, err := net.SplitHostPort(a)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || host == "" || perr != nil || n == 0 || strings.ContainsAny(host, "/@ ") {
			if strings.Contains(a, "@") {
				a = "an address with user or password"
			}
			return &PropertyError{Name: propBootstrap, Reason: fmt.Sprintf("%.*q is not host:port", shownBytes, a), Hint: "write it as kafka1:9092, without a scheme"}
		}
	}
	return nil
}

// together judges what properties mean to each other.
func (c *checker) together() {
	if _, ok := c.properties[propBootstrap]; !ok {
		c.add(propBootstrap, "add it: host:port, separated by commas", "it is missing")
	}
	c.discovery()
	c.security()
	c.zooKeeper()
	c.group()
	c.brokerVersion()
	c.order(propRetryBackoff, propRetryBackoffMax)
	c.order(propReconnectBackoff, propReconnectBackoffMax)
	for _, l := range [][2]string{{"gzip", propGzipLevel}, {"lz4", propLZ4Level}, {"zstd", propZstdLevel}} {
		if codec, level := l[0], l[1]; c.has(level) && c.properties[propCompression] != codec {
			c.add(level, "set "+propCompression+": "+codec+" or remove it", "it has no effect with %s %q", propCompression, c.properties[propCompression])
		}
	}
}

// minDiscoveryMs is the least interval of the search for partitions: each asks a broker for all topics of a source.
const minDiscoveryMs = 100

func (c *checker) discovery() {
	p, _ := findProperty(propDiscovery)
	if n := numberOf(c.properties, propDiscovery); n > 0 && n < minDiscoveryMs && p.check(c.properties[propDiscovery]) == nil {
		c.add(propDiscovery, fmt.Sprintf("want 0, which turns it off, or %d to %d milliseconds", minDiscoveryMs, p.Max), "%d is out of range", n)
	}
}

func (c *checker) has(name string) bool {
	_, ok := c.properties[name]
	return ok
}

// order demands that the first is not above the second, defaults included.
func (c *checker) order(low, high string) {
	if !c.has(low) && !c.has(high) {
		return
	}
	a, b := numberOf(c.properties, low), numberOf(c.properties, high)
	if a > b {
		c.add(low, "raise "+high, "%d is above %s, which is %d", a, high, b)
	}
}

func (c *checker) security() {
	protocol, ok := c.properties[propSecurityProtocol]
	if !ok {
		protocol = "PLAINTEXT"
	}
	if !slices.Contains([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, protocol) {
		return // said already
	}
	sasl, tls := strings.HasPrefix(protocol, "SASL"), strings.HasSuffix(protocol, "SSL")
	for _, name := range slices.Sorted(maps.Keys(c.properties)) {
		switch {
		case strings.HasPrefix(name, "sasl.") && !sasl:
			c.add(name, "set "+propSecurityProtocol+": SASL_SSL, or remove it", "it has no effect with %s %s", propSecurityProtocol, protocol)
		case strings.HasPrefix(name, "ssl.") && !tls:
			c.add(name, "set "+propSecurityProtocol+": SSL or SASL_SSL, or remove it", "it has no effect with %s %s", propSecurityProtocol, protocol)
		}
	}
	if sasl {
		c.sasl(protocol)
	}
	if c.has(propCertificate) != c.has(propKey) {
		c.add(propCertificate, "give both or none", "%s and %s belong together", propCertificate, propKey)
	}
	if c.has(propKeyPassword) && !c.has(propKey) {
		c.add(propKeyPassword, "add "+propKey+" or remove it", "there is no key")
	}
	if c.has(propCA) && c.has(propTruststore) {
		c.add(propTruststore, "keep one of them", "%s and %s mean the same", propCA, propTruststore)
	}
}

func (c *checker) sasl(protocol string) {
	mechanism := c.properties[propMechanism]
	if mechanism == "" && !c.has(propMechanism) {
		c.add(propMechanism, "add it: PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512", "%s needs it", protocol)
	}
	plain := c.has(propUsername) || c.has(propPassword)
	switch {
	case c.has(propJAAS) && plain:
		c.add(propJAAS, "keep one of them", "%s excludes %s and %s", propJAAS, propUsername, propPassword)
	case c.has(propJAAS):
		if login, err := parseJAAS(c.properties[propJAAS]); err == nil && mechanism != "" && login.module != moduleOf(mechanism) {
			c.add(propJAAS, "want "+moduleOf(mechanism), "%s is not the module of %s", login.module, mechanism)
		}
	case !c.has(propUsername):
		c.add(propUsername, "add it, or "+propJAAS, "%s needs it", protocol)
	case !c.has(propPassword):
		c.add(propPassword, referenceHint, "%s needs it", protocol)
	}
}

// numberOf is the value of a numeric property, its default if it is not set or not a number.
func numberOf(properties map[string]string, name string) int64 {
	p, ok := findProperty(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(properties[name], 10, 64)
	if err != nil {
		n, _ = strconv.ParseInt(p.Default, 10, 64) // no default is zero
	}
	return n
}

// textOf is the value of a property or its default.
func textOf(properties map[string]string, name string) string {
	if v, ok := properties[name]; ok {
		return v
	}
	if p, ok := findProperty(name); ok {
		return p.Default
	}
	return ""
}
