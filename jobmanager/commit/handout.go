package commit

import (
	"fmt"
	"strconv"

	"github.com/sluice-stream/sluice/ident"
)

// HandoutKey names the transactional ids of one sink subtask in one attempt.
type HandoutKey struct {
	Attempt ident.Attempt
	Sink    string
	Subtask int
}

// String prints attempt/sink/subtask.
func (k HandoutKey) String() string { return fmt.Sprintf("%d/%s/%d", k.Attempt, k.Sink, k.Subtask) }

// Handout says which transactional ids an attempt owns: Prefix followed by every number below Count. It is
// a watermark, so a repeat never revives an id (DESIGN rule 9).
type Handout struct {
	HandoutKey
	// Cluster is the bootstrap servers of the sink, as the manifest records them too.
	Cluster string
	// Prefix ends with a slash: <cluster>/<job id>/<sink>/<subtask>/<attempt>/.
	Prefix string
	Count  int
}

// ID is the n-th id.
func (h Handout) ID(n int) string { return h.Prefix + strconv.Itoa(n) }

// String names the sink and the count.
func (h Handout) String() string { return fmt.Sprintf("%s: %d ids", h.HandoutKey, h.Count) }
