package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parse reads a unit file into Section.Key → value; a key that is repeated has its last value.
func parse(text string) (map[string]string, error) {
	settings := map[string]string{}
	section := ""
	for number, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "", strings.HasPrefix(line, "#"), strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line[1 : len(line)-1]
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || section == "" {
				return nil, fmt.Errorf("line %d: %q is no setting of a section", number+1, line)
			}
			settings[section+"."+strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return settings, nil
}

// seconds reads a time span of systemd: a bare number is in seconds.
func seconds(text string, byDefault time.Duration) (time.Duration, error) {
	if text == "" {
		return byDefault, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Duration(n * float64(time.Second)), nil
	}
	return time.ParseDuration(text)
}
