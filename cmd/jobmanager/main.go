// Command jobmanager runs the job manager of a Sluice cluster.
package main

import (
	"os"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
)

func main() { os.Exit(daemon.Main(daemon.JobManager)) }
