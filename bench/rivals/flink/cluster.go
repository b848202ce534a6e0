// Package flink runs Apache Flink, a rival of the benchmark, as a standalone session cluster of one job manager and
// task managers, and the jobs of bench/flink on it. The jars come from Maven; processes listen on loopback only.
package flink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

const (
	// startTimeout bounds the start of a cluster and of a task manager: 9-18 s on two cores that do nothing else.
	startTimeout = 5 * time.Minute
	httpTimeout  = 30 * time.Second
	pollEvery    = 20 * time.Millisecond
	// JobManagerName names the process of the job manager.
	JobManagerName = "flink-jobmanager"
)

// Options are those of a cluster.
type Options struct {
	Distribution        *Distribution
	TaskManagers        int
	SlotsPerTaskManager int
	// Settings add to Flink's configuration, or replace what is there, by Flink's names.
	Settings map[string]string
}

// TaskManager is one that runs.
type TaskManager struct {
	ID      string
	Process *process.Process
	Started time.Time // before its process was made
}

// Cluster runs until Close.
type Cluster struct {
	options            Options
	dir, conf          string
	rest               string // address of the REST API
	jm                 *process.Process
	tms                []*TaskManager
	started            int    // task managers so far
	jar                string // id of the uploaded jar
	jmLaunch, tmLaunch launch
	startedIn          time.Duration
	client             http.Client
}

// Start starts a cluster and waits for its slots. Its task managers are flink-tm-1 and so on.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "sluice-bench-flink-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the Flink cluster: %w", err)
	}
	c := &Cluster{options: options, dir: dir, client: http.Client{Timeout: httpTimeout}}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.configure(ctx); err != nil {
		return err
	}
	begun := time.Now()
	var err error
	if c.jm, err = c.java(JobManagerName, "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint", c.jmLaunch); err != nil {
		return err
	}
	// A task manager that finds no job manager tries again after ten seconds only.
	if err := c.waitSlots(ctx, 0); err != nil {
		return err
	}
	for range c.options.TaskManagers {
		if _, err := c.launchTaskManager(); err != nil {
			return err
		}
	}
	if err := c.waitSlots(ctx, c.options.TaskManagers*c.options.SlotsPerTaskManager); err != nil {
		return err
	}
	c.startedIn = time.Since(begun)
	return c.upload(ctx)
}

// configure writes the configuration and asks Flink what its memory settings mean.
func (c *Cluster) configure(ctx context.Context) error {
	var p ports
	for _, port := range []*int{&p.rpc, &p.rest} {
		var err error
		if *port, err = process.FreePort(); err != nil {
			return err
		}
	}
	c.rest = fmt.Sprintf("http://127.0.0.1:%d", p.rest)
	var err error
	if c.conf, err = writeConf(c.dir, settings(c.dir, p, c.options.SlotsPerTaskManager, c.options.Settings)); err != nil {
		return err
	}
	if c.jmLaunch, err = c.options.Distribution.memoryOf(ctx, c.conf, jobManagerParams); err != nil {
		return err
	}
	c.tmLaunch, err = c.options.Distribution.memoryOf(ctx, c.conf, taskManagerParams)
	return err
}

// java starts a process of the cluster. G1 is what Flink's start scripts choose.
func (c *Cluster) java(name, class string, l launch) (*process.Process, error) {
	args := slices.Concat(l.jvm, []string{"-XX:+UseG1GC"}, openModules(),
		[]string{"-Dlog4j2.configurationFile=" + filepath.Join(c.conf, "log4j2.properties"), "-cp", c.options.Distribution.classPath(), class, "--configDir", c.conf},
		l.arguments)
	return process.Start(process.Spec{Name: name, Path: "java", Args: args, Dir: c.dir})
}

func (c *Cluster) launchTaskManager() (*TaskManager, error) {
	c.started++
	tm := &TaskManager{ID: fmt.Sprintf("flink-tm-%d", c.started), Started: time.Now()}
	l := c.tmLaunch
	l.arguments = slices.Concat(l.arguments, []string{"-D", "taskmanager.resource-id=" + tm.ID})
	var err error
	if tm.Process, err = c.java(tm.ID, "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", l); err != nil {
		return nil, err
	}
	c.tms = append(c.tms, tm)
	return tm, nil
}

// StartedIn is from before the first process was made until all slots were free. Task managers are started when the job
// manager answers: one that is too early waits for ten seconds.
func (c *Cluster) StartedIn() time.Duration { return c.startedIn }

// StartTaskManager starts one more. It does not wait: WaitRegistered does.
func (c *Cluster) StartTaskManager() (*TaskManager, error) { return c.launchTaskManager() }

// TaskManagers lists those that run.
func (c *Cluster) TaskManagers() []*TaskManager { return slices.Clone(c.tms) }

// Kill9 kills a task manager and forgets it.
func (c *Cluster) Kill9(tm *TaskManager) error {
	c.tms = slices.DeleteFunc(c.tms, func(other *TaskManager) bool { return other == tm })
	return tm.Process.Kill9()
}

// Processes is every process by name.
func (c *Cluster) Processes() map[string]*process.Process {
	all := map[string]*process.Process{JobManagerName: c.jm}
	for _, tm := range c.tms {
		all[tm.ID] = tm.Process
	}
	return all
}

// Logs is the end of the log of each process, for errors.
func (c *Cluster) Logs() string {
	const tail = 4 << 10
	var b strings.Builder
	if c.jm != nil {
		fmt.Fprintf(&b, "--- %s ---\n%s", JobManagerName, c.jm.Tail(tail))
	}
	for _, tm := range c.tms {
		fmt.Fprintf(&b, "--- %s ---\n%s", tm.ID, tm.Process.Tail(tail))
	}
	return b.String()
}

// Close ends every process, task managers first, and removes all files.
func (c *Cluster) Close() error {
	var errs []error
	for _, tm := range c.tms {
		errs = append(errs, tm.Process.Kill9())
	}
	if c.jm != nil {
		errs = append(errs, c.jm.Kill9())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
