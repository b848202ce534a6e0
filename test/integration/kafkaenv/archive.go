package kafkaenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// fastStart makes a broker start in 1.6 s instead of 3 s at less than half of the processor time: classes
// come from an archive, and only the first compiler works. Not for throughput.
func fastStart(archive string) []string {
	return []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:SharedArchiveFile=" + archive, "-Xshare:auto", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"}
}

// classArchive returns the class-data archive of a broker. It is made once a Java version by starting a
// broker and stopping it in an orderly way.
func classArchive(ctx context.Context, kind Kind, classPath string) (string, error) {
	version, err := javaVersion(ctx)
	if err != nil {
		return "", err
	}
	dir, err := cached(fmt.Sprintf("archive-%s-jdk-%s", kind, version), func(dir string) error {
		return makeArchive(ctx, kind, classPath, dir)
	})
	return filepath.Join(dir, "classes.jsa"), err
}

func makeArchive(ctx context.Context, kind Kind, classPath, dir string) error {
	data, err := os.MkdirTemp("", "sluice-archive-")
	if err != nil {
		return fmt.Errorf("making a directory for a broker: %w", err)
	}
	defer os.RemoveAll(data)
	client, err := process.FreePort()
	if err != nil {
		return err
	}
	controller, err := process.FreePort()
	if err != nil {
		return err
	}
	b := &broker{kind: kind, node: 1, port: client, dir: data, classPath: classPath}
	if err := b.prepare(ctx, brokerProperties(b, []int{client, controller}, nil)); err != nil {
		return err
	}
	b.jvm = []string{"-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:ArchiveClassesAtExit=" + filepath.Join(dir, "classes.jsa")}
	c := &Cluster{kind: kind, dir: data, servers: []server{b}}
	if err := c.startAll(ctx); err != nil {
		return err
	}
	if err := c.exercise(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, c.Logs())
	}
	return b.stop()
}

// javaVersion is the version of the Java in PATH, as part of a file name: an archive fits one version only.
func javaVersion(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("asking java for its version: %w: %s", err, output)
	}
	_, rest, _ := strings.Cut(string(output), `"`)
	version, _, found := strings.Cut(rest, `"`)
	if !found {
		return "", fmt.Errorf("java -version says %q, which holds no version in quotes", output)
	}
	return version, nil
}
