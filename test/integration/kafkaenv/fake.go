package kafkaenv

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// errCannotPause says that kfake lives in the test process and cannot stand still alone.
var errCannotPause = errors.New("kfake cannot be paused; use a real broker for this case")

// fake is a kfake cluster. All of its brokers stop and start together; its state is kept on disk between.
type fake struct {
	ports   []int
	options []kfake.Opt
	cluster *kfake.Cluster
}

func newFake(dir string, options Options) ([]server, error) {
	f := &fake{}
	for range options.Brokers {
		port, err := process.FreePort()
		if err != nil {
			return nil, err
		}
		f.ports = append(f.ports, port)
	}
	f.options = []kfake.Opt{
		kfake.Ports(f.ports...), kfake.NumBrokers(options.Brokers), kfake.DataDir(filepath.Join(dir, "data")),
		kfake.BrokerConfigs(options.Properties),
	}
	return []server{f}, nil
}

func (f *fake) start(context.Context) error {
	cluster, err := kfake.NewCluster(f.options...)
	if err != nil {
		return fmt.Errorf("starting kfake: %w", err)
	}
	f.cluster = cluster
	return nil
}

func (f *fake) stop() error {
	f.cluster.Close()
	f.cluster = nil
	return nil
}

func (f *fake) kill() error   { return f.stop() }
func (f *fake) pause() error  { return errCannotPause }
func (f *fake) resume() error { return errCannotPause }
func (f *fake) running() bool { return f.cluster != nil }
func (f *fake) log() string   { return "kfake keeps no log" }

func (f *fake) bootstrap() string {
	var list []string
	for _, port := range f.ports {
		list = append(list, fmt.Sprintf("127.0.0.1:%d", port))
	}
	return strings.Join(list, ",")
}
