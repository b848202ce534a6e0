package rig

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// ZooKeeper is the name of the ZooKeeper on the edges of the mesh.
const ZooKeeper = "zookeeper"

// zookeeper is a server that outlives the runs, with a proxy before it.
type zookeeper struct {
	*kafkaenv.ZooKeeper
	dir, led string
}

// OpenZooKeeper starts a ZooKeeper, unless one runs already, and gives the address that leads through the proxy.
func (g *Ground) OpenZooKeeper(ctx context.Context) (led string, err error) {
	if g.zookeeper != nil {
		return g.zookeeper.led, nil
	}
	z := &zookeeper{}
	if z.led, err = freeAddress(); err != nil {
		return "", err
	}
	if z.dir, err = os.MkdirTemp("", "sluice-chaos-zookeeper-"); err != nil {
		return "", fmt.Errorf("making a directory for ZooKeeper: %w", err)
	}
	if z.ZooKeeper, err = kafkaenv.OpenZooKeeper(ctx, z.dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(z.dir))
	}
	g.zookeeper = z
	g.Mesh.Add(ZooKeeper, z.led, z.Addr())
	return z.led, g.Mesh.Up(ZooKeeper)
}

// DirectZooKeeper is the address of the ZooKeeper that no proxy stands before.
func (g *Ground) DirectZooKeeper() string { return g.zookeeper.Addr() }

// ZooKeeper is the server that OpenZooKeeper started.
func (g *Ground) ZooKeeper() kafkaenv.ZooKeeperServer { return g.zookeeper.Server() }

// KillZooKeeper ends the ZooKeeper as kill -9 does; its proxy refuses until StartZooKeeper.
func (g *Ground) KillZooKeeper() error {
	g.Mesh.Down(ZooKeeper)
	return g.ZooKeeper().Kill()
}

// StartZooKeeper starts a ZooKeeper that has ended, and lets one that stands still go on.
func (g *Ground) StartZooKeeper(ctx context.Context) error {
	if g.ZooKeeper().Running() {
		if err := g.ZooKeeper().Resume(); err != nil {
			return fmt.Errorf("resuming ZooKeeper: %w", err)
		}
	} else if err := g.ZooKeeper().Start(ctx); err != nil {
		return err
	}
	return g.Mesh.Up(ZooKeeper)
}

// healZooKeeper undoes what faults did to it, if there is one.
func (g *Ground) healZooKeeper(ctx context.Context) error {
	if g.zookeeper == nil {
		return nil
	}
	return g.StartZooKeeper(ctx)
}

func (g *Ground) closeZooKeeper() error {
	if g.zookeeper == nil {
		return nil
	}
	return errors.Join(g.zookeeper.Close(), os.RemoveAll(g.zookeeper.dir))
}
