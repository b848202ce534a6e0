package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

func (c *cli) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain NAME|ID", Short: "Say how a job is, what it waits for and what can be done", GroupID: "jobs", Args: exactly("NAME|ID"), ValidArgsFunction: c.completeJobs,
		Long: `Say in sentences what a job does and for how long, what it waits for (slots, a broker, a commit), why the next
checkpoint is late, which partition is the furthest behind, what failed last, which restarts are left, and what
holds for the output of each sink. ! marks what is wrong, … what is waited for, an arrow what can be done.
With -o json the same findings stand beside the facts that they are made of.`,
		Example: "  sluice explain orders\n  sluice explain orders -o json | jq -r '.findings[] | select(.level != \"ok\").text'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.Explain(ctx, &pb.ExplainRequest{Job: args[0]})
				if err != nil {
					return err
				}
				e := web.ExplanationFromProto(resp)
				if c.output == outputJSON {
					return c.printJSON(e)
				}
				c.printExplanation(&e)
				return nil
			})
		},
	}
}

// marks stand before findings by their level.
var marks = map[string]string{"ok": " ", "waiting": "…", "problem": "!"}

func (c *cli) printExplanation(e *web.Explanation) {
	for _, f := range e.Findings {
		fmt.Fprintf(c.stdout, "%s %s\n", marks[f.Level], f.Text)
		if f.Advice != "" {
			fmt.Fprintf(c.stdout, "    → %s\n", f.Advice)
		}
	}
}
