package jobmanager

import (
	"context"
	"io"
	"log/slog"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// decisions is the decision log: one JSON object a line for everything that must be true of the job
// manager's decisions afterwards, for people and for the chaos suite. Without a file it does nothing.
type decisions struct{ log *slog.Logger }

func newDecisions(w io.Writer) *decisions {
	if w == nil {
		return &decisions{slog.New(slog.DiscardHandler)}
	}
	return &decisions{slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch {
		case len(groups) == 0 && a.Key == slog.LevelKey:
			return slog.Attr{}
		case len(groups) == 0 && a.Key == slog.MessageKey:
			a.Key = "event"
		}
		return a
	}}))}
}

// of is the log of one job.
func (d *decisions) of(id ident.JobID) *decisions { return &decisions{d.log.With("job", string(id))} }

func (d *decisions) note(event string, args ...any) {
	d.log.Log(context.Background(), slog.LevelInfo, event, args...)
}

// fenced puts the fence of an attempt before the other fields.
func (d *decisions) fenced(event string, f ident.Fence, args ...any) {
	d.note(event, append([]any{"epoch", uint64(f.Epoch), "attempt", uint64(f.Attempt)}, args...)...)
}

// keysOf names transactions as id@producer:epoch.
func keysOf(list []manifest.Transaction) []string {
	out := make([]string, 0, len(list))
	for i := range list {
		out = append(out, list[i].Key().String())
	}
	return out
}
