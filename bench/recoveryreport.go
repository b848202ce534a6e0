package main

import (
	"fmt"
	"io"

	"github.com/sluice-stream/sluice/bench/figures"
)

func (r *Report) printRecovery(w io.Writer) {
	if r.Recovery == nil {
		return
	}
	table := figures.NewTable(w, "KILL -9", "N", "MEDIAN (MIN–MAX)", "LOAD")
	row := func(name string, kills []Recovery, figure func(*Recovery) float64) {
		if len(kills) > 0 {
			table.Row(name, fmt.Sprint(len(kills)), milliseconds(figures.SampleOf(kills, figure)),
				fmt.Sprintf("%.1f", figures.SampleOf(kills, func(r *Recovery) float64 { return r.Load1 }).Median))
		}
	}
	first, all := func(r *Recovery) float64 { return r.FirstMs }, func(r *Recovery) float64 { return r.AllMs }
	row("task manager, spare slots: kill to first new committed output of the lost partitions", r.Recovery.SpareSlots, first)
	row("task manager, spare slots: kill to new committed output of every partition", r.Recovery.SpareSlots, all)
	missing := r.Recovery.MissingSlot
	row("task manager, no spare slots: kill to WAITING_FOR_SLOTS", missing, func(r *Recovery) float64 { return r.WaitingMs })
	row("task manager, no spare slots: replacement ready to first new committed output", missing, func(r *Recovery) float64 { return r.SlotToFirstMs })
	row("task manager, no spare slots: replacement ready to new committed output of every partition", missing, func(r *Recovery) float64 { return r.SlotToAllMs })
	row("task manager, no spare slots: replacement's process to first new committed output", missing, func(r *Recovery) float64 { return r.ProcessToFirstMs })
	row("job manager: kill to serving again", r.Recovery.JobManager, func(r *Recovery) float64 { return r.ReadyMs })
	row("job manager: kill to first new committed output", r.Recovery.JobManager, first)
	row("job manager: kill to new committed output of every partition", r.Recovery.JobManager, all)
	r.Recovery.Flink.rows(row)
	table.End()
	r.Recovery.Flink.printStart(w)
}
