package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

// awayTimeout is how long a job manager may be away, as when it is restarted, before following it ends.
const awayTimeout = time.Minute

// errNotFollowing is returned when following was ended before the job had.
var errNotFollowing = errors.New("no longer following")

// follow shows the status of a job until it ends. Its exit code tells how it ended.
func (c *cli) follow(ctx context.Context, client pb.JobServiceClient, id string) error {
	view := newFollowView(c.stderr, c.lookupEnv)
	defer view.close()
	last, err := watch(ctx, client, id, view)
	view.close()
	if err != nil {
		return err
	}
	if c.output == outputJSON {
		if err := c.printJSON(last); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.stdout, "job %s (%s) is %s\n", last.Name, last.ID, last.State)
	}
	return outcome(&last)
}

// watch shows the job until it ends, also across a restart of the job manager.
func watch(ctx context.Context, client pb.JobServiceClient, id string, view *followView) (last web.Job, err error) {
	heard := time.Now()
	for {
		err = receive(ctx, client, id, func(j *web.Job) {
			last, heard = *j, time.Now()
			view.show(j)
		})
		switch {
		case err == nil:
			return last, nil
		case ctx.Err() != nil:
			return last, errNotFollowing
		case status.Code(err) != codes.Unavailable || last.ID == "" || time.Since(heard) > awayTimeout:
			return last, err
		}
		view.away(reasonOf(status.Convert(err).Message()))
		select {
		case <-ctx.Done():
		case <-time.After(redialPause):
		}
	}
}

// receive hands every status of one Watch to show; nil means that the job has ended.
func receive(ctx context.Context, client pb.JobServiceClient, id string, show func(*web.Job)) error {
	stream, err := client.Watch(ctx, &pb.WatchRequest{Job: id})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		j := web.JobFromProto(resp.GetJob())
		show(&j)
	}
}

func outcome(j *web.Job) error {
	code := exitJobFailed
	switch j.State {
	case "FAILED":
	case "FAILED_DATA_LOSS":
		code = exitJobDataLoss
	default:
		return nil
	}
	why := "no reason was recorded"
	if j.Failure != nil {
		why = j.Failure.Message
	}
	return &exitError{code, fmt.Errorf("job %s ended %s: %s", j.Name, j.State, why)}
}

// followView shows a job while it runs: one line that is drawn again on a terminal, and otherwise a line
// per change of state.
type followView struct {
	w       io.Writer
	screen  screen
	drawn   bool
	gone    bool // the job manager is away, and that was told
	state   string
	explain string
	// records were read at that time, and perSecond since the time before.
	records   int64
	at        time.Time
	perSecond float64
}

func newFollowView(w io.Writer, lookupEnv func(string) (string, bool)) *followView {
	return &followView{w: w, screen: newScreen(w, lookupEnv)}
}

// away tells once that the job manager cannot be reached; the next status ends that.
func (v *followView) away(why string) {
	if v.gone {
		return
	}
	v.close()
	v.gone, v.state = true, ""
	fmt.Fprintf(v.w, "the job manager is away, trying again for %.0f s: %s\n", awayTimeout.Seconds(), why)
}

func (v *followView) show(j *web.Job) {
	text := fmt.Sprintf("%s: %s", j.Name, j.State)
	if w := waitsFor(j); w != "" {
		text += " (" + w + ")"
	}
	v.gone = false
	changed := j.State != v.state || j.Slots.Explain != "" && v.explain == ""
	v.state, v.explain = j.State, j.Slots.Explain
	if !v.screen.redraws() {
		if changed {
			fmt.Fprintln(v.w, text)
		}
		return
	}
	text += "  " + v.rate(recordsRead(j), time.Now())
	text += fmt.Sprintf("  checkpoint %s  restarts %d", latestOf(j), j.Restarts)
	fmt.Fprintf(v.w, "\r\x1b[K%s", v.screen.fit(text))
	v.drawn = true
}

// ratePeriod is over which the rate is taken: counters arrive with the heartbeats of task managers.
const ratePeriod = time.Second

// rate is how many records were read, and how many per second lately. A new attempt counts from 0 again.
func (v *followView) rate(records int64, now time.Time) string {
	switch period := now.Sub(v.at); {
	case v.at.IsZero() || records < v.records:
		v.records, v.at, v.perSecond = records, now, 0
	case period >= ratePeriod:
		v.perSecond = float64(records-v.records) / period.Seconds()
		v.records, v.at = records, now
	}
	return fmt.Sprintf("%d records, %.0f/s", records, v.perSecond)
}

// close ends the line that is being redrawn.
func (v *followView) close() {
	if v.drawn {
		fmt.Fprintln(v.w)
		v.drawn = false
	}
}

// recordsRead is what the source vertices have read. A source vertex is one whose subtasks report lag.
func recordsRead(j *web.Job) int64 {
	var n int64
	for _, v := range j.Vertices {
		for _, s := range v.Subtasks {
			if len(s.Lag) > 0 {
				n += s.RecordsIn
			}
		}
	}
	return n
}
