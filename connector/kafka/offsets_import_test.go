package kafka

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/graph"
)

// TestImportNotes: what an offset and a log say about each other, and what all of them say about their meaning.
func TestImportNotes(t *testing.T) {
	type log struct{ value, start, end int64 }
	tests := []struct {
		name    string
		meaning graph.OffsetMeaning
		logs    []log
		notes   string // joined by |
		warning string
		startup string
	}{
		{"last, read to the end", graph.MeansLast, []log{{9, 0, 10}, {4, 0, 20}}, "|", "", "map[t:map[0:10 1:5]]"},
		{"next, read as last", graph.MeansLast, []log{{10, 0, 10}, {4, 0, 20}},
			"one behind the end of the log: the number probably means the next offset|", "1 of 2 partitions hold exactly the end of their log", "map[t:map[0:11 1:5]]"},
		{"next", graph.MeansNext, []log{{10, 0, 10}, {4, 0, 20}}, "|", "", "map[t:map[0:10 1:4]]"},
		{"last, read as next", graph.MeansNext, []log{{9, 0, 10}, {19, 5, 20}}, "|", "all 2 partitions hold the offset of the last record", "map[t:map[0:9 1:19]]"},
		{"nothing tells", graph.MeansLast, []log{{4, 0, 20}}, "", "do not tell what they mean", "map[t:map[0:5]]"},
		{"records are gone", graph.MeansLast, []log{{4, 8, 20}}, "the records 5 to 7 are gone: the log begins at 8", "do not tell", "map[]"},
		{"another topic of that name", graph.MeansLast, []log{{400, 0, 20}}, "behind the end of the log, 20: the topic was made anew, or the number is none of its offsets", "do not tell", "map[t:map[0:401]]"},
		{"no offset", graph.MeansLast, []log{{-1, 0, 20}}, "the node holds no offset", "do not tell", "map[]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := ImportQuery{Meaning: test.meaning}
			other := map[graph.OffsetMeaning]graph.OffsetMeaning{graph.MeansLast: graph.MeansNext, graph.MeansNext: graph.MeansLast}[test.meaning]
			var all []ImportedOffset
			var notes []string
			for i, l := range test.logs {
				o := ImportedOffset{Topic: "t", Partition: int32(i), Value: l.value, Next: nextOf(l.value, test.meaning), Otherwise: nextOf(l.value, other), LogStart: &l.start, LogEnd: &l.end}
				o.note()
				all, notes = append(all, o), append(notes, o.Note)
			}
			if got := strings.Join(notes, "|"); got != test.notes {
				t.Errorf("notes %q, want %q", got, test.notes)
			}
			if got := strings.Join(q.judge(all), "\n"); !strings.Contains(got, test.warning) || (got == "") != (test.warning == "") {
				t.Errorf("warning %q, want %q", got, test.warning)
			}
			if got := fmt.Sprint(StartupOffsets(all)); got != test.startup {
				t.Errorf("startup %s, want %s", got, test.startup)
			}
		})
	}
}

// TestImportChecks: what is missing or misspelt is told before anybody is asked; brokers are not needed.
func TestImportChecks(t *testing.T) {
	for want, properties := range map[string]map[string]string{
		"zookeeper.connect: it is missing":          {propGroup: "g"},
		"group.id: it is missing":                   {propZooKeeper: "zk"},
		"did you mean zookeeper.connect?":           {propGroup: "g", propZooKeeper: "zk", "zookeeper.conect": "zk"},
		"bootstrap.servers: \"x\" is not host:port": {propGroup: "g", propZooKeeper: "zk", propBootstrap: "x"},
	} {
		_, _, err := newAdmin(t).ImportOffsets(t.Context(), ImportQuery{Properties: properties, Meaning: graph.MeansLast})
		var named *PropertyError
		if !errors.As(err, &named) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
