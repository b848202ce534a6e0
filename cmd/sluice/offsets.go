package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/web"
)

// publicationText says how publishing goes at a place, or went in a job that has ended; empty if nothing is known.
func publicationText(p *web.Publication, ended bool) string {
	if p.Storage == string(graph.ModeGroup) {
		return p.Source + " is of mode group: no part in checkpoints, its group keeps them; at-least-once at best after a crash"
	}
	text := fmt.Sprintf("%s in %s: ", p.Source, p.Storage)
	switch {
	case ended && p.Error != "":
		return text + "the last ones could not be published: " + p.Error
	case ended && p.Checkpoint == 0: // by an earlier start of the job manager, if at all
		return ""
	case p.Checkpoint > 0:
		text += fmt.Sprintf("of checkpoint %d, published %s ago", p.Checkpoint, ago(p.PublishedAt))
	case p.Error == "":
		text += "not published yet"
	default:
		text += "not published since the job manager started"
	}
	if p.Error != "" {
		text += fmt.Sprintf("; fails for %s: %s", ago(p.FailingSince), p.Error)
	}
	return text
}

func (c *cli) offsetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "offsets", Short: "Look at offsets that other programs left in ZooKeeper", GroupID: "more", Args: exactly(), ValidArgsFunction: cobra.NoFileCompletions,
		Long: "Look at offsets that other programs left in ZooKeeper. Where a running job stands, `sluice lag` says.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.offsetsImportCommand())
	return cmd
}

// importFlags are the flags of sluice offsets import; what is set counts before the job file.
type importFlags struct {
	source, zooKeeper, group, meaning, servers string
	topics, properties                         []string
}

func (c *cli) offsetsImportCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import [FILE]", Short: "Explain a group's offsets in ZooKeeper and convert them to a startup", ValidArgsFunction: completeFile,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("import takes FILE or nothing; got %s; see `%s --help`", given(args), cmd.CommandPath())
			}
			return nil
		},
		Long: `Read the offsets that a consumer group has in ZooKeeper, at /consumers/GROUP/offsets/TOPIC/PARTITION, say what each means, and print
the startup: {offsets: …} of a job that goes on there. Nothing is written, and no job manager is needed.

A number is the last record processed (--meaning last: Flink 0.9 and 0.10) or the next one to read (--meaning next: later Flinks,
Kafka's own tools). A next offset that is read as a last one loses a record of each partition; the reverse repeats one. With
--bootstrap-servers the numbers are compared with the logs, which often tells.

FILE is a job file: what its sources with zookeeper.connect say holds where no flag is given.
Exit code 3: the group has no offsets there.`,
		Example: `  sluice offsets import --zookeeper zk1:2181/kafka --group orders --bootstrap-servers kafka1:9092
  sluice offsets import --zookeeper zk1 --group orders --topic payments --meaning next -o json
  sluice offsets import job.yaml --source orders`,
		RunE: func(cmd *cobra.Command, args []string) error {
			queries, err := c.importQueries(&f, args)
			if err != nil {
				return err
			}
			return c.importOffsets(cmd.Context(), queries)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.zooKeeper, "zookeeper", "", "`CONNECT` string of ZooKeeper, as zk1:2181,zk2:2181/chroot")
	fs.StringVar(&f.group, "group", "", "the consumer `GROUP`")
	fs.StringArrayVar(&f.topics, "topic", nil, "a `TOPIC`; repeatable; default: all of which the group has offsets")
	fs.StringVar(&f.meaning, "meaning", "", "what a number means: `last|next`; default last")
	fs.StringVar(&f.servers, "bootstrap-servers", "", "brokers, `HOST:PORT,HOST:PORT`, to compare with the logs")
	fs.StringArrayVar(&f.properties, "property", nil, "another Kafka property, `NAME=VALUE`, such as zookeeper.digest.username; repeatable")
	fs.StringVar(&f.source, "source", "", "of FILE, only the source of this `NAME`")
	return cmd
}

// importQuery is what is asked about one source, or without a file.
type importQuery struct {
	source string
	kafka.ImportQuery
}

func (c *cli) importQueries(f *importFlags, args []string) ([]importQuery, error) {
	var queries []importQuery
	if len(args) == 1 {
		job, err := c.load(args[0], nil)
		if err != nil {
			return nil, err
		}
		for i := range job.Sources {
			s := &job.Sources[i]
			if s.Kafka != nil && s.Kafka.Properties["zookeeper.connect"] != "" && (f.source == "" || f.source == s.Name) {
				queries = append(queries, importQuery{s.Name, kafka.ImportQuery{Properties: sourceProperties(s.Kafka.Properties), Topics: s.Kafka.Topics, Meaning: s.Kafka.OffsetsMeaning}})
			}
		}
		if len(queries) == 0 {
			return nil, usageError("%s has no source%s with zookeeper.connect", args[0], prefixed(" ", f.source))
		}
	} else {
		if f.source != "" {
			return nil, usageError("--source %q: it is a source of FILE, and no FILE is given; add it, or remove --source", f.source)
		}
		queries = []importQuery{{"", kafka.ImportQuery{Properties: map[string]string{}, Meaning: graph.MeansLast}}}
	}
	for i := range queries {
		if err := f.apply(&queries[i].ImportQuery); err != nil {
			return nil, err
		}
	}
	return queries, nil
}

// sourceProperties leaves out what only holds together with the rest of a job.
func sourceProperties(properties map[string]string) map[string]string {
	out := maps.Clone(properties)
	delete(out, "auto.commit.interval.ms")
	return out
}

func (f *importFlags) apply(q *kafka.ImportQuery) error {
	for _, given := range []struct{ name, value string }{{"zookeeper.connect", f.zooKeeper}, {"group.id", f.group}, {"bootstrap.servers", f.servers}} {
		if given.value != "" {
			q.Properties[given.name] = given.value
		}
	}
	for _, p := range f.properties {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return usageError("--property %q is not NAME=VALUE", name)
		}
		q.Properties[name] = value
	}
	if len(f.topics) > 0 {
		q.Topics = f.topics
	}
	switch f.meaning {
	case "":
	case string(graph.MeansLast), string(graph.MeansNext):
		q.Meaning = graph.OffsetMeaning(f.meaning)
	default:
		return usageError("--meaning %q: want last or next", f.meaning)
	}
	for _, needed := range []struct{ name, flag string }{{"zookeeper.connect", "zookeeper"}, {"group.id", "group"}} {
		if q.Properties[needed.name] == "" {
			return usageError("--%s is missing; see `sluice offsets import --help`", needed.flag)
		}
	}
	return nil
}

// importView is the answer about one source in JSON.
type importView struct {
	Source    string                      `json:"source"`
	ZooKeeper string                      `json:"zookeeper"`
	Group     string                      `json:"group"`
	Meaning   string                      `json:"meaning"`
	Offsets   []importedView              `json:"offsets"`
	Startup   map[string]map[string]int64 `json:"startup"`
	Warnings  []string                    `json:"warnings"`
}

// importedView is one partition. Value, Next and Otherwise are null if the node holds no offset, the ends of the
// log if they were not asked for.
type importedView struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Value     *int64 `json:"value"`
	Next      *int64 `json:"next"`
	Otherwise *int64 `json:"nextByOtherMeaning"`
	LogStart  *int64 `json:"logStart"`
	LogEnd    *int64 `json:"logEnd"`
	Note      string `json:"note"`
}

func (c *cli) importOffsets(ctx context.Context, queries []importQuery) (err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	admin := kafka.NewAdmin(slog.New(slog.DiscardHandler))
	defer func() { err = errors.Join(err, admin.Close()) }()
	views := []importView{}
	for _, q := range queries {
		found, warnings, err := admin.ImportOffsets(ctx, q.ImportQuery)
		var property *kafka.PropertyError
		switch {
		case errors.Is(err, kafka.ErrNoOffsets):
			return &exitError{exitNotFound, err}
		case errors.As(err, &property):
			return &exitError{exitUsage, err}
		case err != nil:
			return err
		}
		views = append(views, viewOfImport(&q, found, warnings))
	}
	if c.output == outputJSON {
		return c.printJSON(views)
	}
	for i := range views {
		c.printImport(&views[i])
	}
	return nil
}

func viewOfImport(q *importQuery, found []kafka.ImportedOffset, warnings []string) importView {
	v := importView{
		Source: q.source, ZooKeeper: q.Properties["zookeeper.connect"], Group: q.Properties["group.id"], Meaning: string(q.Meaning),
		Startup: map[string]map[string]int64{}, Warnings: append([]string{}, warnings...),
	}
	some := func(n int64) *int64 {
		if n < 0 {
			return nil
		}
		return &n
	}
	for _, o := range found {
		v.Offsets = append(v.Offsets, importedView{o.Topic, o.Partition, some(o.Value), some(o.Next), some(o.Otherwise), o.LogStart, o.LogEnd, o.Note})
	}
	for topic, partitions := range kafka.StartupOffsets(found) {
		v.Startup[topic] = map[string]int64{}
		for p, offset := range partitions {
			v.Startup[topic][strconv.Itoa(int(p))] = offset
		}
	}
	return v
}

func (c *cli) printImport(v *importView) {
	if v.Source != "" {
		fmt.Fprintf(c.stdout, "source %s, ", v.Source)
	}
	meaning := "the last record processed (meaning last)"
	if v.Meaning == string(graph.MeansNext) {
		meaning = "the next offset to read (meaning next)"
	}
	fmt.Fprintf(c.stdout, "group %s in ZooKeeper at %s; a number is %s\n\n", v.Group, v.ZooKeeper, meaning)
	t := c.table("TOPIC", "PARTITION", "ZOOKEEPER HOLDS", "NEXT OFFSET", "BY THE OTHER MEANING", "LOG", "NOTE")
	for _, o := range v.Offsets {
		log := "-"
		if o.LogStart != nil {
			log = fmt.Sprintf("%d to %d", *o.LogStart, *o.LogEnd)
		}
		t.AppendRow(table.Row{o.Topic, o.Partition, orDash(o.Value), orDash(o.Next), orDash(o.Otherwise), log, o.Note})
	}
	t.Render()
	for _, w := range v.Warnings {
		fmt.Fprintf(c.stderr, "warning: %s\n", w)
	}
	if len(v.Startup) == 0 {
		fmt.Fprintln(c.stdout, "\nThere is nothing to begin at: use startup: earliest or latest.")
		return
	}
	fmt.Fprintf(c.stdout, "\nTo begin there, in the source of a job file (partitions that are not named begin at their earliest record):\n\n%s", startupYAML(v.Startup))
}

// startupYAML is a startup for a job file.
func startupYAML(startup map[string]map[string]int64) string {
	var b strings.Builder
	b.WriteString("startup:\n  offsets:\n")
	for _, topic := range slices.Sorted(maps.Keys(startup)) {
		var parts []string
		for _, p := range slices.SortedFunc(maps.Keys(startup[topic]), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) {
			parts = append(parts, fmt.Sprintf("%s: %d", p, startup[topic][p]))
		}
		fmt.Fprintf(&b, "    '%s': {%s}\n", topic, strings.Join(parts, ", "))
	}
	return b.String()
}
