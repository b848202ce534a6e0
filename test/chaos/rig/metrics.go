package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// metricsTimeout bounds the question for the metrics of one process.
const metricsTimeout = 2 * time.Second

// Metrics is what a process says of itself, in the text format of Prometheus.
func (r *Rig) Metrics(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.metricsAddress(name)+"/metrics", nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking %s for its metrics: %w", name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("asking %s for its metrics: %s", name, response.Status)
	}
	return string(text), err
}

// metricsAddress is where a process serves its metrics, by its name on the mesh.
func (r *Rig) metricsAddress(name string) string {
	if w, ok := r.workers[name]; ok {
		return w.http
	}
	return r.http
}

// RunningSubtasks counts the subtasks that a task manager runs, by its metrics.
func (r *Rig) RunningSubtasks(ctx context.Context, id string) (int, error) {
	text, err := r.Metrics(ctx, id)
	return strings.Count(text, "\nsluice_records_in_total{"), err
}
