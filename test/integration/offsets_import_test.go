package integration

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

// imported is what a test looks at in sluice offsets import -o json.
type imported struct {
	Source, Group, Meaning string
	Offsets                []struct {
		Topic              string
		Partition          int
		Value, Next        *int64
		NextByOtherMeaning *int64
		LogStart, LogEnd   *int64
		Note               string
	}
	Startup  map[string]map[string]int64
	Warnings []string
}

// TestOffsetsImport: what an old consumer left in ZooKeeper is explained, compared with the logs and converted to a
// startup, which a job then begins at.
func TestOffsetsImport(t *testing.T) {
	onEveryKafka(t, []testCase{{"import", importOffsets}})
}

func importOffsets(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t, 1)
	o := newOffsetsRig(t, r)
	r.kafka.CreateTopic(t, r.topic("old"), 3, nil)
	r.kafka.Produce(t, r.numbered("old", 2, 5, 0, 100))
	node := func(partition string) string { return "/consumers/flink/offsets/" + r.topic("old") + "/" + partition }
	o.set(t, node("0"), "39")
	o.set(t, node("1"), "49")
	o.set(t, node("2"), "")
	flags := []string{"offsets", "import", "--zookeeper", o.keeper.Addr(), "--group", "flink"}
	ask := func(t *testing.T, more ...string) imported {
		t.Helper()
		var answer []imported
		out := r.MustSluice(t, append(append([]string{}, flags...), append(more, "-o", "json")...)...)
		if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer) != 1 || len(answer[0].Offsets) != 3 {
			t.Fatalf("%v: %s", err, out)
		}
		return answer[0]
	}
	t.Run("last", func(t *testing.T) {
		got := ask(t, "--bootstrap-servers", r.kafka.Addr())
		if want := map[string]int64{"0": 40, "1": 50}; !maps.Equal(got.Startup[r.topic("old")], want) || got.Meaning != "last" || len(got.Warnings) > 0 {
			t.Errorf("%+v, want startup %v", got, want)
		}
		if p := got.Offsets[0]; *p.Value != 39 || *p.Next != 40 || *p.NextByOtherMeaning != 39 || *p.LogStart != 0 || *p.LogEnd != 50 || p.Note != "" {
			t.Errorf("partition 0: %+v", p)
		}
		if p := got.Offsets[2]; p.Value != nil || p.Next != nil || p.Note != "the node holds no offset" {
			t.Errorf("partition 2: %+v", p)
		}
	})
	t.Run("numbers that mean the next one, read as the last", func(t *testing.T) {
		o.set(t, node("1"), "50")
		defer o.set(t, node("1"), "49")
		got := ask(t, "--bootstrap-servers", r.kafka.Addr())
		if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "mean the next offset") || !strings.Contains(got.Offsets[1].Note, "one behind the end") {
			t.Errorf("the trap is not told: %+v", got)
		}
		if got := ask(t, "--meaning", "next", "--topic", r.topic("old")); got.Startup[r.topic("old")]["1"] != 50 {
			t.Errorf("%+v, want 50", got)
		}
	})
	t.Run("a job begins there", func(t *testing.T) { beginImported(t, o, append(flags, "--topic", r.topic("old"))) })
	t.Run("from a job file", func(t *testing.T) {
		file := r.JobFile(t, strings.ReplaceAll(strings.ReplaceAll(r.fill(o.job()), r.topic("in"), r.topic("old")), "group.id: '"+r.prefix+"job'", "group.id: flink"))
		out := r.MustSluice(t, "offsets", "import", file)
		for _, words := range []string{"source in, group flink", "'" + r.topic("old") + "': {0: 40, 1: 50}", "0 to 50"} {
			if !strings.Contains(out, words) {
				t.Errorf("the answer does not say %q:\n%s", words, out)
			}
		}
	})
	misusedImport(t, o)
}

func misusedImport(t *testing.T, o *offsetsRig) {
	for name, c := range map[string]struct {
		args  []string
		code  int
		words string
	}{
		"no group":       {[]string{"--zookeeper", o.keeper.Addr()}, 2, "--group is missing"},
		"no zookeeper":   {[]string{"--group", "flink"}, 2, "--zookeeper is missing"},
		"meaning":        {[]string{"--zookeeper", o.keeper.Addr(), "--group", "flink", "--meaning", "first"}, 2, "want last or next"},
		"unknown group":  {[]string{"--zookeeper", o.keeper.Addr(), "--group", "nobody"}, 3, "group nobody has no offsets"},
		"unknown topic":  {[]string{"--zookeeper", o.keeper.Addr(), "--group", "flink", "--topic", "none"}, 3, "of topic none"},
		"unknown chroot": {[]string{"--zookeeper", o.keeper.Addr() + "/nowhere", "--group", "flink"}, 1, "/nowhere"},
		"nobody there":   {[]string{"--zookeeper", "127.0.0.1:1", "--group", "flink"}, 1, "127.0.0.1:1"},
		"property":       {[]string{"--zookeeper", o.keeper.Addr(), "--group", "flink", "--property", "zookeeper.sesion.timeout.ms=1"}, 2, "did you mean zookeeper.session.timeout.ms"},
		"two files":      {[]string{"a", "b"}, 2, "FILE or nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			got := o.Sluice(t, append([]string{"offsets", "import"}, c.args...)...)
			if got.Code != c.code || !strings.Contains(got.Stderr, c.words) || got.Stdout != "" {
				t.Errorf("exit code %d, want %d and %q\n%s%s", got.Code, c.code, c.words, got.Stdout, got.Stderr)
			}
		})
	}
}

// beginImported pastes the startup that is printed for people into a job file.
func beginImported(t *testing.T, o *offsetsRig, flags []string) {
	out := o.MustSluice(t, flags...)
	_, startup, found := strings.Cut(out, "startup:\n")
	if !found {
		t.Fatalf("no startup in\n%s", out)
	}
	startup = "startup:\n" + strings.TrimRight(startup, "\n")
	job := strings.Replace(o.job("STORAGE", "none", "bounded: none", "bounded: latest"), "startup: committed", strings.ReplaceAll(startup, "\n", "\n      "), 1)
	job = strings.NewReplacer("$in", "$old", ", zookeeper.connect: '"+o.keeper.Addr()+"'", "").Replace(job)
	o.finish(t, job)
	if got := len(o.kafka.Read(t, o.topic("out"))); got != 10 {
		t.Errorf("%d records out, want the 10 behind what ZooKeeper held", got)
	}
}
