// Command taskmanager runs a task manager of a Sluice cluster.
package main

import (
	"os"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
)

func main() { os.Exit(daemon.Main(daemon.TaskManager)) }
