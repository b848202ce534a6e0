package flink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	project "github.com/sluice-stream/sluice/bench/flink"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// fetchTimeout bounds one run of Maven; a cold one takes 20 s.
const fetchTimeout = 5 * time.Minute

// howToGet says how.
const howToGet = "install a JDK 17 or newer and Maven"

// Missing says what Flink needs and this machine does not have, and how to get it; empty when it can be built and run.
func Missing() string {
	var missing []string
	for _, program := range []string{"java", "javac", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return strings.Join(missing, ", ") + " in PATH (" + howToGet + ")"
}

// Distribution is Flink and the jobs, as jars.
type Distribution struct {
	lib string // directory of all jars
}

// Fetch builds the jobs and fetches Flink by Maven, unless the cache that the integration tests have too holds them.
func Fetch(ctx context.Context) (*Distribution, error) {
	if missing := Missing(); missing != "" {
		return nil, fmt.Errorf("running Flink needs %s", missing)
	}
	digest, err := projectDigest()
	if err != nil {
		return nil, err
	}
	dir, err := kafkaenv.Cached("flink-"+digest, func(dir string) error {
		if build(ctx, dir) == nil {
			return nil
		}
		return build(ctx, dir) // a repository that answers late is worth one more attempt
	})
	if err != nil {
		return nil, err
	}
	return &Distribution{lib: filepath.Join(dir, "lib")}, nil
}

// projectDigest names the project by its content, so that a change of it is built again.
func projectDigest() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(project.Project, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := project.Project.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(content), content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("reading the Maven project: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// build runs Maven in a copy of the project.
func build(ctx context.Context, dir string) error {
	copied := filepath.Join(dir, "project")
	if err := os.CopyFS(copied, project.Project); err != nil {
		return fmt.Errorf("copying the Maven project: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", filepath.Join(copied, "pom.xml"), "-Dlib.dir="+filepath.Join(dir, "lib"), "package")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building the jobs and fetching Flink with mvn: %w: %s", err, output)
	}
	return nil
}

// Version names Flink and its connector, from the Maven project.
func Version() (string, error) {
	text, err := project.Project.ReadFile("pom.xml")
	if err != nil {
		return "", fmt.Errorf("reading the Maven project: %w", err)
	}
	var pom struct {
		Flink     string `xml:"properties>flink.version"`
		Connector string `xml:"properties>connector.version"`
	}
	if err := xml.Unmarshal(text, &pom); err != nil {
		return "", fmt.Errorf("reading pom.xml: %w", err)
	}
	if pom.Flink == "" || pom.Connector == "" {
		return "", errors.New("pom.xml has no flink.version or no connector.version")
	}
	return fmt.Sprintf("Flink %s, flink-connector-kafka %s", pom.Flink, pom.Connector), nil
}

// classPath is that of every process.
func (d *Distribution) classPath() string { return filepath.Join(d.lib, "*") }

// jobJar is the small jar with the jobs alone, which is also on the class path.
func (d *Distribution) jobJar() (string, error) {
	found, err := filepath.Glob(filepath.Join(d.lib, "flink-bench-*.jar"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("found %d", len(found))
	}
	if err != nil {
		return "", fmt.Errorf("looking for the jar of the jobs in %s: %w", d.lib, err)
	}
	return found[0], nil
}
