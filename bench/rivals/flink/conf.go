package flink

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Memory of a process as Flink's own config.yaml has it. The jobs keep their state on the heap, so nothing is set
// aside for RocksDB: a larger heap is collected less often.
const (
	jobManagerMemory  = "1600m"
	taskManagerMemory = "1728m"
	managedMemory     = "0"
)

// Memory is what the processes are given, by Flink's names.
func Memory() map[string]string {
	return map[string]string{
		"jobmanager.memory.process.size": jobManagerMemory, "taskmanager.memory.process.size": taskManagerMemory, "taskmanager.memory.managed.size": managedMemory,
	}
}

// TunedRecovery are settings that make Flink notice a killed task manager in seconds instead of tens of seconds, and
// restart at once.
func TunedRecovery() map[string]string {
	return map[string]string{
		"heartbeat.interval": "1 s", "heartbeat.timeout": "3 s",
		"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "0 s", "restart-strategy.fixed-delay.attempts": "1000000",
	}
}

// openModules lets Flink into modules of Java 17, as its own config.yaml does.
func openModules() []string {
	var out []string
	for _, p := range []string{
		"java.rmi/sun.rmi.registry", "jdk.compiler/com.sun.tools.javac.api", "jdk.compiler/com.sun.tools.javac.file", "jdk.compiler/com.sun.tools.javac.parser",
		"jdk.compiler/com.sun.tools.javac.tree", "jdk.compiler/com.sun.tools.javac.util", "java.security.jgss/sun.security.krb5",
	} {
		out = append(out, "--add-exports="+p+"=ALL-UNNAMED")
	}
	for _, p := range []string{
		"lang", "net", "io", "nio", "lang.reflect", "text", "time", "util", "util.concurrent", "util.concurrent.atomic", "util.concurrent.locks",
	} {
		out = append(out, "--add-opens=java.base/java."+p+"=ALL-UNNAMED")
	}
	return append(out, "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED")
}

// ports are those that must be known before the job manager runs; all others are the system's choice.
type ports struct{ rpc, rest int }

// settings is Flink's configuration: extra adds to it or replaces.
func settings(dir string, p ports, slots int, extra map[string]string) map[string]string {
	const loopback = "127.0.0.1"
	out := map[string]string{
		"jobmanager.rpc.address": loopback, "jobmanager.rpc.port": strconv.Itoa(p.rpc), "jobmanager.bind-host": loopback, "blob.server.port": "0",
		"rest.address": loopback, "rest.bind-address": loopback, "rest.port": strconv.Itoa(p.rest),
		"taskmanager.host": loopback, "taskmanager.bind-host": loopback, "taskmanager.numberOfTaskSlots": strconv.Itoa(slots),
		// Subtasks of a job go to all task managers, as Sluice's do.
		"taskmanager.load-balance.mode": "SLOTS",
		// The jobs are on the class path of the cluster: code compiled for one is there for the next.
		"classloader.resolve-order": "parent-first",
		"io.tmp.dirs":               filepath.Join(dir, "tmp"), "web.upload.dir": filepath.Join(dir, "upload"),
		// How old an answer of the REST API may be; by default three seconds.
		"web.refresh-interval": "20", "metrics.fetcher.update-interval": "500",
	}
	maps.Copy(out, Memory())
	maps.Copy(out, extra)
	return out
}

// yamlOf writes a configuration in the form of config.yaml.
func yamlOf(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s: '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return b.String()
}

// logging writes to stderr, which the process keeps in a file.
const logging = `rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %-40c{1} %m%n
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
`

// writeConf makes the directories and the files of a cluster's configuration and returns their directory.
func writeConf(dir string, settings map[string]string) (string, error) {
	conf := filepath.Join(dir, "conf")
	for _, d := range []string{conf, filepath.Join(dir, "tmp"), filepath.Join(dir, "upload"), filepath.Join(dir, "checkpoints")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", fmt.Errorf("making a directory of the Flink cluster: %w", err)
		}
	}
	for name, text := range map[string]string{"config.yaml": yamlOf(settings), "log4j2.properties": logging} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("writing the configuration of Flink: %w", err)
		}
	}
	return conf, nil
}

// launch is how a process of the cluster is started: flags of the JVM and arguments of its main class.
type launch struct{ jvm, arguments []string }

// The processes, by the names that Flink's own start scripts use when they ask for memory settings.
const (
	jobManagerParams  = "GET_JM_RESOURCE_PARAMS"
	taskManagerParams = "GET_TM_RESOURCE_PARAMS"
)

// memoryOf asks Flink, as its start scripts do, which JVM flags and arguments the configured memory means.
func (d *Distribution) memoryOf(ctx context.Context, conf, params string) (launch, error) {
	command := exec.CommandContext(ctx, "java", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile="+filepath.Join(conf, "log4j2.properties"),
		"-cp", d.classPath(), "org.apache.flink.runtime.util.bash.BashJavaUtils", params, "--configDir", conf)
	output, err := command.CombinedOutput()
	if err != nil {
		return launch{}, fmt.Errorf("asking Flink for %s: %w: %s", params, err, output)
	}
	return launchIn(string(output), params)
}

// launchIn reads the answer: one marked line of flags and one of arguments among others.
func launchIn(output, params string) (launch, error) {
	const mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
	var lines [][]string
	for scanner := bufio.NewScanner(strings.NewReader(output)); scanner.Scan(); {
		if _, rest, ok := strings.Cut(scanner.Text(), mark); ok {
			lines = append(lines, strings.Fields(rest))
		}
	}
	if len(lines) != 2 {
		return launch{}, fmt.Errorf("the answer of Flink to %s has %d lines with %s, want 2: %s", params, len(lines), mark, output)
	}
	return launch{jvm: lines[0], arguments: lines[1]}, nil
}
