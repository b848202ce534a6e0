package graph

import (
	"strings"
	"testing"
)

// TestMixedPolicies: who reads a topic with two policies is told where the stricter one counts.
func TestMixedPolicies(t *testing.T) {
	const want = "sources.b.kafka.onError: sources a and b both read topic \"t\" and meet at both: there the stricter policy counts; give both sources the same onError"
	for _, test := range []struct {
		name string
		job  string
		more func(*Job)
		want string
	}{
		{"the same topic", "source a onError=skip\nsource b onError=fail\noperator both a,b filter=f\nsink z both", nil, want},
		{"the same policy", "source a onError=skip\nsource b onError=skip\noperator both a,b filter=f\nsink z both", nil, ""},
		{"they do not meet", "source a onError=skip\nsource b onError=fail\nsink y a\nsink z b", nil, ""},
		{"other topics", "source a onError=skip\nsource b onError=fail\noperator both a,b filter=f\nsink z both", func(j *Job) { j.Sources[1].Kafka.Topics = []string{"u"} }, ""},
		{"a pattern", "source a onError=skip\nsource b onError=fail\noperator both a,b filter=f\nsink z both",
			func(j *Job) { j.Sources[1].Kafka.Topics, j.Sources[1].Kafka.TopicPattern = nil, "[a-z]" }, want},
		{"two topics of dead letters", "source a onError=deadLetter deadLetter=d\nsource b onError=deadLetter deadLetter=e\noperator both a,b filter=f\nsink z both", nil, want},
	} {
		job := parseJob(t, "job j p=1\n"+test.job)
		if test.more != nil {
			test.more(job)
		}
		var got []string
		for _, p := range Warnings(job) {
			got = append(got, p.String())
		}
		if text := strings.Join(got, "\n"); text != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, text, test.want)
		}
	}
}
