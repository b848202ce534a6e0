package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// completeTimeout bounds how long the shell waits for the names of jobs.
const completeTimeout = 2 * time.Second

// completeJobs offers the jobs of the cluster to the shell, with their states. Without a job manager
// nothing is offered.
func (c *cli) completeJobs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || c.fromEnvironment(cmd.Flags()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	var names []string
	seen := map[string]bool{}
	err := c.withClient(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		resp, err := client.List(ctx, &pb.ListRequest{})
		for _, j := range resp.GetJobs() { // newest first: a name means the newest job
			if !seen[j.GetName()] {
				seen[j.GetName()] = true
				names = append(names, cobra.CompletionWithDesc(j.GetName(), j.GetState()))
			}
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFile offers job files.
func completeFile(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
