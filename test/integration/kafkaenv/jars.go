package kafkaenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// fetchTimeout bounds one run of Maven; a cold fetch takes 15-30 s.
const fetchTimeout = 5 * time.Minute

// artifact is group:artifact:version, or without the version if it is excluded.
type artifact string

// runtimes lists what each server needs. Versions are pinned: the newest one in the metadata of a
// repository is not always complete (kafka-tools 4.4.0 and the parent of ZooKeeper 3.9.6 are not there).
// Kafka 4 has its logging backend not among its run-time dependencies, ZooKeeper marks some as provided.
var runtimes = map[Kind][]artifact{
	Kafka39: {
		"org.apache.kafka:kafka_2.13:3.9.2", "org.apache.kafka:kafka-tools:3.9.2", "org.slf4j:slf4j-reload4j:1.7.36",
	},
	Kafka43: {
		"org.apache.kafka:kafka_2.13:4.3.1", "org.apache.kafka:kafka-tools:4.3.1",
		"org.apache.logging.log4j:log4j-core:2.25.2", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.2",
	},
	kafka08:  {"org.apache.kafka:kafka_2.11:0.8.2.2", "org.slf4j:slf4j-log4j12:1.7.36", "ch.qos.reload4j:reload4j:1.2.25"},
	Kafka09:  {"org.apache.kafka:kafka_2.11:0.9.0.1", "org.slf4j:slf4j-log4j12:1.7.36", "ch.qos.reload4j:reload4j:1.2.25"},
	Kafka010: {"org.apache.kafka:kafka_2.11:0.10.2.2", "org.slf4j:slf4j-log4j12:1.7.36", "ch.qos.reload4j:reload4j:1.2.25", "javax.xml.bind:jaxb-api:2.3.1"},
	zookeeper39: {
		"org.apache.zookeeper:zookeeper:3.9.5", "io.dropwizard.metrics:metrics-core:4.2.37",
		"org.xerial.snappy:snappy-java:1.1.10.8", "ch.qos.logback:logback-classic:1.3.15",
	},
}

// excluded are what the artifacts of a kind name and no repository has any more, or what something newer replaces.
var excluded = map[Kind][]artifact{
	kafka08:  {"com.sun.jdmk:jmxtools", "com.sun.jmx:jmxri", "javax.jms:jms", "log4j:log4j"},
	Kafka09:  {"log4j:log4j"},
	Kafka010: {"log4j:log4j"},
}

// ClassPath is that of a server and of the tools that come with it, fetched if need be.
func ClassPath(ctx context.Context, kind Kind) (string, error) { return jars(ctx, kind) }

// jars returns the class path of a server, after fetching it if the cache does not hold it yet.
func jars(ctx context.Context, kind Kind) (string, error) {
	dir, err := cached("jars-"+string(kind), func(dir string) error {
		var err error
		for range 2 { // a repository that answers late is worth one more attempt
			if err = maven(ctx, kind, dir); err == nil {
				return nil
			}
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "*"), nil
}

func maven(ctx context.Context, kind Kind, dir string) error {
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, []byte(pomOf(kind)), 0o644); err != nil {
		return fmt.Errorf("writing the pom: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", pom,
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("fetching the jars of %s with mvn: %w: %s", kind, err, output)
	}
	return nil
}

func pomOf(kind Kind) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice.test</groupId><artifactId>%s</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
`, kind)
	for _, a := range runtimes[kind] {
		part := strings.Split(string(a), ":")
		fmt.Fprintf(&b, "    <dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version><exclusions>\n", part[0], part[1], part[2])
		for _, e := range excluded[kind] {
			not := strings.Split(string(e), ":")
			fmt.Fprintf(&b, "      <exclusion><groupId>%s</groupId><artifactId>%s</artifactId></exclusion>\n", not[0], not[1])
		}
		b.WriteString("    </exclusions></dependency>\n")
	}
	b.WriteString("  </dependencies>\n</project>\n")
	return b.String()
}
