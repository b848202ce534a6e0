package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/connector/kafka"
)

func TestProperties(t *testing.T) {
	got := sluice(t.Context(), nil, "properties", "-o", "json")
	var list []propertyView
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || got.code != 0 {
		t.Fatalf("exit %d, %v, %s", got.code, err, got.stderr)
	}
	table := sluice(t.Context(), nil, "properties").stdout
	all := kafka.Properties()
	if len(list) != len(all) {
		t.Fatalf("%d properties, the table in the code has %d", len(list), len(all))
	}
	for i, p := range list {
		if p.Name != all[i].Name || p.Doc == "" || p.Role == "" || p.Type == "" || p.Values == nil {
			t.Errorf("%+v", p)
		}
		if (p.Min == nil) != (p.Max == nil) || p.Max != nil && *p.Max != all[i].Max {
			t.Errorf("%s: range %v to %v", p.Name, p.Min, p.Max)
		}
		if !strings.Contains(table, p.Name) {
			t.Errorf("%s is not in the table for people", p.Name)
		}
	}
}

func TestOneProperty(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string // on standard output if code is 0, else on standard error
	}{
		{"linger.ms", 0, "type     milliseconds, 0 to 60000\ndefault  \"5\""},
		{"bootstrap.servers", 0, "for      source and sink"},
		{"isolation.level -o json", 0, `"values": [
   "read_committed",
   "read_uncommitted"
  ]`},
		{"lingr.ms", exitNotFound, "no such property; did you mean linger.ms?"},
		{"acks", exitNotFound, "acks: it is set by Sluice"},
		{"a b", exitUsage, "properties takes NAME or nothing"},
	} {
		got := sluice(t.Context(), nil, append([]string{"properties"}, strings.Fields(c.args)...)...)
		text := got.stdout
		if c.code != 0 {
			text = got.stderr
			if got.stdout != "" {
				t.Errorf("properties %s: an error left %q on standard output", c.args, got.stdout)
			}
		}
		if got.code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("properties %s: exit %d, %q; want %d and %q", c.args, got.code, text, c.code, c.says)
		}
	}
}
