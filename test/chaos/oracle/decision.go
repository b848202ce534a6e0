package oracle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Decision is one line of the job manager's decision log. Which fields a line has depends on Event:
//
//	start        epoch
//	state        job from to attempt
//	deploy       job epoch attempt checkpoint needed granted
//	trigger      job epoch attempt checkpoint
//	ack          job epoch attempt checkpoint subtask transactions
//	completed    job epoch attempt checkpoint final transactions
//	aborted      job epoch attempt checkpoint reason
//	committed    job transaction
//	refused      job transaction reason
//	marked       job transactions
//	announced    job checkpoint
//	fenced       job attempt id
//	handedOut    job attempt sink subtask count
//	published    job checkpoint source storage
//	splitAdded   job epoch attempt topic partition offset subtask
//	dropped      job
//
// A transaction is written as transactionalId@producerId:epoch.
type Decision struct {
	Time         time.Time `json:"time"`
	Event        string    `json:"event"`
	Job          string    `json:"job"`
	Epoch        int64     `json:"epoch"`
	Attempt      int64     `json:"attempt"`
	Checkpoint   int64     `json:"checkpoint"`
	From         string    `json:"from"`
	To           string    `json:"to"`
	Needed       int       `json:"needed"`
	Granted      int       `json:"granted"`
	Subtask      subtask   `json:"subtask"`
	Final        bool      `json:"final"`
	Transactions []string  `json:"transactions"`
	Transaction  string    `json:"transaction"`
	Reason       string    `json:"reason"`
	ID           string    `json:"id"`
	Sink         string    `json:"sink"`
	Source       string    `json:"source"`
	Storage      string    `json:"storage"`
	Count        int       `json:"count"`
	Topic        string    `json:"topic"`
	Partition    int32     `json:"partition"`
}

// subtask is a text such as "out[1]", or a number beside Decision.Sink.
type subtask string

// UnmarshalJSON is json.Unmarshaler's.
func (s *subtask) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, (*string)(s))
	}
	var n int
	if err := json.Unmarshal(text, &n); err != nil {
		return fmt.Errorf("subtask %s is neither a text nor a number", text)
	}
	*s = subtask(strconv.Itoa(n))
	return nil
}

// maxLineBytes is the longest line of a decision log.
const maxLineBytes = 16 << 20

// ReadDecisions reads a decision log. A last line without its end was cut by a crash and is left out.
func ReadDecisions(from io.Reader) ([]Decision, error) {
	var lines []Decision
	reader := bufio.NewReaderSize(from, 64<<10)
	for number := 1; ; number++ {
		text, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if len(text) > maxLineBytes {
			return nil, fmt.Errorf("line %d has %d bytes, the limit is %d", number, len(text), maxLineBytes)
		}
		// A kill may have cut a line short; the next job manager wrote its first one behind it.
		if at := bytes.LastIndex(text, []byte(`{"time":`)); at > 0 {
			text = text[at:]
		}
		var d Decision
		if err := json.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("line %d: %w: %.200q", number, err, text)
		}
		lines = append(lines, d)
	}
}

// OfJob keeps the lines of one job and of none. An empty id keeps all.
func OfJob(lines []Decision, job string) []Decision {
	var kept []Decision
	for _, d := range lines {
		if job == "" || d.Job == "" || d.Job == job {
			kept = append(kept, d)
		}
	}
	return kept
}

// transactionID is the transactional id in a transaction's text.
func transactionID(transaction string) string {
	if at := strings.LastIndexByte(transaction, '@'); at >= 0 {
		return transaction[:at]
	}
	return transaction
}

// idParts are the last four parts of a transactional id: …/sink/subtask/attempt/n.
type idParts struct {
	sink, subtask string
	attempt       int64
	n             int
}

func parseID(id string) (idParts, error) {
	parts := strings.Split(id, "/")
	if len(parts) < 4 {
		return idParts{}, fmt.Errorf("transactional id %q does not end in sink/subtask/attempt/n", id)
	}
	last := parts[len(parts)-4:]
	attempt, err1 := strconv.ParseInt(last[2], 10, 64)
	n, err2 := strconv.Atoi(last[3])
	if err1 != nil || err2 != nil {
		return idParts{}, fmt.Errorf("transactional id %q does not end in sink/subtask/attempt/n", id)
	}
	return idParts{sink: last[0], subtask: last[1], attempt: attempt, n: n}, nil
}
