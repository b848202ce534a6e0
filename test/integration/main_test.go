// Package integration runs the binaries of Sluice against Kafka: every case on kfake and on real brokers,
// so that the imitation cannot lie.
package integration

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/sluice-stream/sluice/test/integration/cluster"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// binaries are built once for all tests of this package; TestMain sets and closes them. Those that can be
// told to fail (SLUICE_FAILPOINTS) are failing.
var binaries, failing *cluster.Binaries

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if binaries, err = cluster.NewBinaries(); err == nil {
		failing, err = cluster.NewBinaries("failpoints")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Cases that run side by side wait more than they compute. The command line may say otherwise.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := errors.Join(binaries.Close(), failing.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// testCase is one story. The broker is shared; topics and the Sluice cluster are its own.
type testCase struct {
	name string
	run  func(t *testing.T, r *rig)
}

// onEveryKafka runs the cases on each kind of Kafka.
func onEveryKafka(t *testing.T, cases []testCase) {
	t.Helper()
	everyKafka(t, cases, false)
}

// everyKafka is onEveryKafka, with the cases of one Kafka side by side if that is wanted.
func everyKafka(t *testing.T, cases []testCase, sideBySide bool) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	for _, kind := range kafkaenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kind})
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					if sideBySide {
						t.Parallel()
					}
					c.run(t, newRig(t, kafka))
				})
			}
		})
	}
}
