package main

import (
	"testing"
	"time"
)

func TestUnitsOfThisRepository(t *testing.T) {
	for _, path := range []string{"../../../deploy/systemd/sluice-jobmanager.service", "../../../deploy/systemd/sluice-taskmanager.service"} {
		u, err := readUnit(path)
		if err != nil {
			t.Fatal(err)
		}
		if u.restart > time.Second || u.startLimitInterval != 0 {
			t.Errorf("%s: restarts after %s, at most %d times in %s; want within 1s and without limit", path, u.restart, startLimitBurst, u.startLimitInterval)
		}
		for code, want := range map[int]bool{-1: true, 0: true, 1: true, 2: false} { // 2 is a wrong setting
			if u.restarts(code) != want {
				t.Errorf("%s: restarts after exit code %d: %t, want %t", path, code, !want, want)
			}
		}
		if u.timeoutStop < 10*time.Second {
			t.Errorf("%s: a daemon has %s to end, and may take 10 s", path, u.timeoutStop)
		}
	}
}

func TestDefaultsAreSystemds(t *testing.T) {
	settings, err := parse("[Unit]\n# a comment\n[Service]\nRestart=on-failure\n RestartSec = 2 \n")
	if err != nil || settings["Service.Restart"] != "on-failure" || settings["Service.RestartSec"] != "2" {
		t.Fatalf("%v, %v", settings, err)
	}
	if _, err := parse("[Service]\nnonsense\n"); err == nil {
		t.Error("a line that is no setting is taken")
	}
	for text, want := range map[string]time.Duration{"": time.Minute, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, "500ms": 500 * time.Millisecond, "0": 0} {
		if got, err := seconds(text, time.Minute); err != nil || got != want {
			t.Errorf("%q is %s, want %s: %v", text, got, want, err)
		}
	}
	u := &unit{policy: "on-failure", startLimitInterval: 10 * time.Second}
	if u.restarts(0) || !u.restarts(1) || !u.restarts(-1) {
		t.Error("on-failure restarts after failures alone")
	}
	now := time.Now()
	if starts := []time.Time{now, now, now, now, now, now}; !u.tooOften(starts) || u.tooOften(starts[:5]) {
		t.Error("the limit is five starts in the interval")
	}
}
