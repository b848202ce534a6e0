// Package flink holds the Maven project of the benchmark's jobs for Apache Flink, so that it can be built from
// anywhere. bench/rivals/flink builds and runs it.
package flink

import "embed"

// Project is pom.xml and the Java sources below src.
//
//go:embed pom.xml src
var Project embed.FS
