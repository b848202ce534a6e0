package main

import (
	"testing"
	"time"

	"github.com/sluice-stream/sluice/web"
)

func TestPublicationText(t *testing.T) {
	at := func(d time.Duration) *time.Time {
		then := time.Now().Add(-d)
		return &then
	}
	for want, p := range map[string]web.Publication{
		"s in kafka: not published yet": {Source: "s", Storage: "kafka"},
		"s is of mode group: no part in checkpoints, its group keeps them; at-least-once at best after a crash": {Source: "s", Storage: "group"},
		"s in kafka: of checkpoint 7, published 2 min ago":                                                      {Source: "s", Storage: "kafka", Checkpoint: 7, PublishedAt: at(2 * time.Minute)},
		"s in zookeeper: of checkpoint 7, published 2 h ago; fails for 1 h: down":                               {Source: "s", Storage: "zookeeper", Checkpoint: 7, PublishedAt: at(2 * time.Hour), Error: "down", FailingSince: at(time.Hour)},
		"s in zookeeper: not published since the job manager started; fails for 5 min: no server answers":       {Source: "s", Storage: "zookeeper", Error: "no server answers", FailingSince: at(5 * time.Minute)},
	} {
		if got := publicationText(&p, false); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, p := range map[string]web.Publication{
		"": {Source: "s", Storage: "kafka"},
		"s in kafka: of checkpoint 7, published 2 min ago":           {Source: "s", Storage: "kafka", Checkpoint: 7, PublishedAt: at(2 * time.Minute)},
		"s in zookeeper: the last ones could not be published: down": {Source: "s", Storage: "zookeeper", Checkpoint: 7, PublishedAt: at(2 * time.Hour), Error: "down", FailingSince: at(time.Hour)},
	} {
		if got := publicationText(&p, true); got != want {
			t.Errorf("ended: %q, want %q", got, want)
		}
	}
}

func TestStartupYAML(t *testing.T) {
	got := startupYAML(map[string]map[string]int64{"b": {"10": 1, "9": 2}, "a": {"0": 40}})
	if want := "startup:\n  offsets:\n    'a': {0: 40}\n    'b': {9: 2, 10: 1}\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
