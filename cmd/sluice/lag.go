package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

func (c *cli) lagCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lag NAME|ID", Short: "Show how far each partition is behind", GroupID: "jobs", Args: exactly("NAME|ID"), ValidArgsFunction: c.completeJobs,
		Long: `Show, for each partition that a job reads, its position (the next offset to read), the end of its log, the
records between them, who reads it, and the offset that is published for others; the furthest behind first.
While nobody reads, positions are those of the newest checkpoint and the ends are asked of the brokers.
What is not known is shown as -, with the reason below the table.`,
		Example: "  sluice lag orders\n  sluice lag orders -o json | jq .total",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.Lag(ctx, &pb.LagRequest{Job: args[0]})
				if err != nil {
					return err
				}
				lag := web.LagFromProto(resp)
				if c.output == outputJSON {
					return c.printJSON(lag)
				}
				c.printLag(&lag)
				return nil
			})
		},
	}
}

func (c *cli) printLag(l *web.Lag) {
	if len(l.Partitions) == 0 {
		fmt.Fprintf(c.stderr, "job %s is %s and reads no partitions\n", l.Name, l.State)
		return
	}
	t := c.table("SOURCE", "TOPIC", "PARTITION", "POSITION", "FROM", "END", "LAG", "READ BY", "PUBLISHED")
	for i := range l.Partitions {
		p := &l.Partitions[i]
		t.AppendRow(table.Row{p.Source, p.Topic, p.Partition, orDash(p.Position), orNone(p.PositionFrom), endOf(p), orDash(p.Lag), readBy(p), publishedOf(p)})
	}
	t.Style().Format.Footer = text.FormatDefault
	total := strconv.FormatInt(l.Total, 10)
	if l.Unknown > 0 {
		total += fmt.Sprintf(", and %d unknown", l.Unknown)
	}
	t.AppendFooter(table.Row{"", counted(len(l.Partitions), "partition", "partitions"), "", "", "", "", total, "", ""})
	t.Render()
	for _, note := range lagNotes(l) {
		fmt.Fprintln(c.stdout, note)
	}
}

func orDash(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// endOf is the end of the log, or where the source stops if that comes first.
func endOf(p *web.PartitionLag) string {
	if p.Stop != nil && (p.End == nil || *p.Stop < *p.End) {
		return orDash(p.Stop) + " (stop)"
	}
	return orDash(p.End)
}

func readBy(p *web.PartitionLag) string {
	if p.TaskManager == "" {
		return "-"
	}
	return p.Subtask + " on " + p.TaskManager
}

func publishedOf(p *web.PartitionLag) string {
	var out []string
	for _, o := range p.Published {
		published := o.Storage + " " + orDash(o.Next)
		if o.PublishedAt != nil {
			published += ", " + ago(o.PublishedAt) + " ago"
		}
		out = append(out, published)
	}
	return orNone(strings.Join(out, "; "))
}

// lagNotes are the notes of partitions and of what is published, each once, with the first partition that
// has it.
func lagNotes(l *web.Lag) []string {
	var out []string
	seen := map[string]bool{}
	add := func(p *web.PartitionLag, note string) {
		if note != "" && !seen[note] {
			seen[note] = true
			out = append(out, fmt.Sprintf("%s/%d: %s", p.Topic, p.Partition, note))
		}
	}
	for i := range l.Partitions {
		p := &l.Partitions[i]
		add(p, p.Note)
		for _, o := range p.Published {
			if o.Note != "" {
				add(p, "what is published in "+o.Storage+" is not known: "+o.Note)
			}
		}
	}
	return out
}
