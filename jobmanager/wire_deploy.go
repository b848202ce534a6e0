package jobmanager

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// maxAddedSplits keeps a message below controlMessageBytes: a position with the longest names takes 450 bytes.
const maxAddedSplits = 2000

// maxDeployBytes leaves room in a control message for what surrounds the deployment.
const maxDeployBytes = controlMessageBytes - 1<<10

// deployment is one attempt as it is sent out.
type deployment struct {
	job       ident.JobID
	fence     ident.Fence
	graph     *graph.Job
	plan      *graph.Physical
	placement map[ident.Subtask]ident.WorkerID
	targets   map[ident.WorkerID]target
	restored  *manifest.Manifest
	// splits is, per source subtask, what it reads.
	splits map[ident.Subtask][]manifest.Position
	// added is, per source subtask, what it was given since.
	added map[ident.Subtask][]manifest.Position
	// removed is what was taken from it since, with where it stood; a split that was given to it again is in added alone.
	removed map[ident.Subtask][]removedSplit
	// handouts are the transactional ids of the attempt so far; idCap is how many a sink may ask for.
	handouts map[sinkRef]commit.Handout
	idCap    int
	// transactional holds the sinks of handouts by subtask.
	transactional map[ident.Subtask][]sinkRef
}

// assignSplits spreads the positions of a manifest over the subtasks of their sources.
func assignSplits(c Connector, plan *graph.Physical, positions []manifest.Position) map[ident.Subtask][]manifest.Position {
	bySource := map[string][]manifest.Position{}
	for _, p := range positions {
		bySource[p.Source] = append(bySource[p.Source], p)
	}
	out := map[ident.Subtask][]manifest.Position{}
	for i := range plan.Vertices {
		v := &plan.Vertices[i]
		if v.Nodes[0].Kind != graph.KindSource {
			continue
		}
		for sub, list := range c.Assign(bySource[v.Name], v.Parallelism) {
			out[ident.Subtask{Vertex: v.Name, Index: sub}] = list
		}
	}
	return out
}

// messages are the Deploy messages of an attempt, by worker.
func (d *deployment) messages() (map[ident.WorkerID]message, error) {
	job := wire.JobToProto(d.graph)
	placements, err := d.placements()
	if err != nil {
		return nil, err
	}
	inline := checkpoint.InlineLimit(d.statefulSubtasks())
	out := map[ident.WorkerID]message{}
	for _, p := range placements {
		m := &pb.Deploy{
			Attempt: wire.AttemptToProto(d.job, d.fence), Job: job, Subtasks: p.GetSubtasks(), Placements: placements,
			RestoredCheckpoint: uint64(d.restored.Checkpoint), InlineStateBytes: inline,
		}
		for _, ref := range p.GetSubtasks() {
			s := wire.SubtaskFromProto(ref)
			for _, pos := range d.splits[s] {
				m.Splits = append(m.Splits, &pb.AssignedSplit{Subtask: ref, Position: wire.PositionToProto(pos)})
			}
		}
		m.State = d.stateOf(p.GetSubtasks())
		m.TransactionalIds = d.idsOf(p.GetSubtasks())
		if n := proto.Size(m); n > maxDeployBytes {
			return nil, fmt.Errorf("the deployment to one task manager takes %d bytes, at most %d can be sent: shorten expressions and properties, or lower the parallelism",
				n, maxDeployBytes)
		}
		out[ident.WorkerID(p.GetWorker())] = &pb.FromJobManager{Message: &pb.FromJobManager_Deploy{Deploy: m}}
	}
	return out, nil
}

// addSplitsMessages give a subtask more splits, in as many messages as their size needs.
func addSplitsMessages(job ident.JobID, fence ident.Fence, to ident.Subtask, list []manifest.Position) []message {
	return splitsMessages(list, func(part []*pb.SplitPosition) message {
		m := &pb.AddSplits{Attempt: wire.AttemptToProto(job, fence), Subtask: wire.SubtaskToProto(to), Positions: part}
		return &pb.FromJobManager{Message: &pb.FromJobManager_AddSplits{AddSplits: m}}
	})
}

// removeSplitsMessages take splits from a subtask, in as many messages as their size needs.
func removeSplitsMessages(job ident.JobID, fence ident.Fence, from ident.Subtask, list []manifest.Position) []message {
	return splitsMessages(list, func(part []*pb.SplitPosition) message {
		m := &pb.RemoveSplits{Attempt: wire.AttemptToProto(job, fence), Subtask: wire.SubtaskToProto(from), Positions: part}
		return &pb.FromJobManager{Message: &pb.FromJobManager_RemoveSplits{RemoveSplits: m}}
	})
}

func splitsMessages(list []manifest.Position, of func([]*pb.SplitPosition) message) []message {
	var out []message
	for part := range slices.Chunk(list, maxAddedSplits) {
		positions := make([]*pb.SplitPosition, len(part))
		for i, p := range part {
			positions[i] = wire.PositionToProto(p)
		}
		out = append(out, of(positions))
	}
	return out
}

// checkSize refuses a job that could not be sent out to task managers with as many slots as one may have: the
// stream to them would break again and again. A slot runs one subtask of every vertex.
func checkSize(c Connector, j *graph.Job, plan *graph.Physical, zero *manifest.Manifest) error {
	d := &deployment{
		graph: j, plan: plan, restored: zero, placement: map[ident.Subtask]ident.WorkerID{}, targets: map[ident.WorkerID]target{},
		splits: assignSplits(c, plan, zero.Positions), handouts: newHandouts(strings.Repeat("0", 16), zero.Job, plan, 1), idCap: idCap(j),
	}
	for _, s := range plan.Subtasks() {
		w := ident.WorkerID(fmt.Sprintf("taskmanager-%d", s.Index/maxSlotsPerTM))
		d.placement[s], d.targets[w] = w, target{}
	}
	_, err := d.messages()
	return err
}

// idsOf lists the transactional ids of subtasks.
func (d *deployment) idsOf(refs []*pb.SubtaskRef) []*pb.TransactionalIDs {
	bySubtask := make(map[ident.Subtask]*pb.SubtaskRef, len(refs))
	for _, r := range refs {
		bySubtask[wire.SubtaskFromProto(r)] = r
	}
	var out []*pb.TransactionalIDs
	for ref, h := range d.handouts {
		if r := bySubtask[ref.subtask]; r != nil {
			out = append(out, &pb.TransactionalIDs{Subtask: r, Sink: ref.sink, Prefix: h.Prefix, Owned: int32(h.Count), Cap: int32(d.idCap)})
		}
	}
	slices.SortFunc(out, func(a, b *pb.TransactionalIDs) int { return strings.Compare(a.GetPrefix(), b.GetPrefix()) })
	return out
}

func (d *deployment) placements() ([]*pb.Placement, error) {
	byWorker := map[ident.WorkerID][]ident.Subtask{}
	for s, w := range d.placement {
		byWorker[w] = append(byWorker[w], s)
	}
	var out []*pb.Placement
	for w, subtasks := range byWorker {
		to, ok := d.targets[w]
		if !ok {
			return nil, fmt.Errorf("deploy to task manager %s: it is gone", w)
		}
		slices.SortFunc(subtasks, ident.Subtask.Compare)
		out = append(out, &pb.Placement{Worker: string(w), DataAddress: to.address, Subtasks: wire.SubtasksToProto(subtasks)})
	}
	slices.SortFunc(out, func(a, b *pb.Placement) int { return strings.Compare(a.GetWorker(), b.GetWorker()) })
	return out, nil
}

// subtasksOn lists what runs on a worker, sorted.
func (d *deployment) subtasksOn(worker ident.WorkerID) []ident.Subtask {
	var out []ident.Subtask
	for s, w := range d.placement {
		if w == worker {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, ident.Subtask.Compare)
	return out
}

// stateful lists the keyed operators of a vertex.
func stateful(v *graph.Vertex) []string {
	var out []string
	for i := range v.Nodes {
		if op := v.Nodes[i].Operator; op != nil && op.Count {
			out = append(out, v.Nodes[i].Name)
		}
	}
	return out
}

func (d *deployment) statefulSubtasks() int {
	n := 0
	for i := range d.plan.Vertices {
		if len(stateful(&d.plan.Vertices[i])) > 0 {
			n += d.plan.Vertices[i].Parallelism
		}
	}
	return n
}

// stateOf lists the pieces of the restored state whose key groups the subtasks own.
func (d *deployment) stateOf(refs []*pb.SubtaskRef) []*pb.StateRef {
	var out []*pb.StateRef
	for i := range d.restored.State {
		piece := &d.restored.State[i]
		wanted := slices.ContainsFunc(refs, func(ref *pb.SubtaskRef) bool {
			v, ok := d.plan.Vertex(ref.GetVertex())
			if !ok || !slices.Contains(stateful(v), piece.Operator) {
				return false
			}
			first, last := graph.KeyGroupsOf(int(ref.GetIndex()), v.Parallelism, d.plan.MaxParallelism)
			return piece.FirstKeyGroup <= last && first <= piece.LastKeyGroup
		})
		if wanted {
			out = append(out, &pb.StateRef{
				Operator: piece.Operator, Writer: wire.SubtaskToProto(piece.Subtask), SizeBytes: piece.SizeBytes,
				FirstKeyGroup: int32(piece.FirstKeyGroup), LastKeyGroup: int32(piece.LastKeyGroup),
			})
		}
	}
	slices.SortFunc(out, func(a, b *pb.StateRef) int {
		return cmp.Or(strings.Compare(a.GetOperator(), b.GetOperator()), cmp.Compare(a.GetFirstKeyGroup(), b.GetFirstKeyGroup()))
	})
	return out
}
