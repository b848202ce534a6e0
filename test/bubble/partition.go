package bubble

// producer is a producer id with its epoch; the zero value: none.
type producer struct {
	id    int64
	epoch int16
}

// entry is what stands at an offset: a record, or the marker that ends a transaction.
type entry struct {
	Message
	marker, aborted bool
}

func (e *entry) visible() bool { return !e.marker && !e.aborted }

// partition is a sequence of entries and what the broker knows of its producers.
type partition struct {
	entries []entry
	// open holds, per producer id, the offsets of the transaction that is open here.
	open map[int64][]int64
	// recent are the last batches of each producer id.
	recent map[int64]*sequences
}

// sequences is what the broker remembers of an idempotent producer.
type sequences struct {
	epoch   int16
	next    int32
	batches []batchAt
}

// batchAt is where a batch came to stand.
type batchAt struct {
	first   int32
	records int
	base    int64
}

// rememberedBatches is how many batches per producer a broker recognises when they come again.
const rememberedBatches = 5

func newPartition() *partition {
	return &partition{open: map[int64][]int64{}, recent: map[int64]*sequences{}}
}

// stable is the last stable offset: the first one of the oldest transaction that is open.
func (p *partition) stable() int64 {
	end := int64(len(p.entries))
	for _, offsets := range p.open {
		end = min(end, offsets[0])
	}
	return end
}

// produce adds a batch of a transaction, once.
func (p *partition) produce(by producer, first int32, messages []Message) (base int64, err error) {
	s := p.recent[by.id]
	if s == nil || s.epoch != by.epoch {
		s = &sequences{epoch: by.epoch}
		p.recent[by.id] = s
	}
	for _, b := range s.batches {
		if b.first == first && b.records == len(messages) {
			return b.base, nil // it was written before
		}
	}
	if first != s.next {
		return 0, brokerError{codeOutOfOrder, "Produce"}
	}
	base = int64(len(p.entries))
	for i, m := range messages {
		p.entries = append(p.entries, entry{Message: m})
		p.open[by.id] = append(p.open[by.id], base+int64(i))
	}
	s.next += int32(len(messages))
	s.batches = append(s.batches, batchAt{first, len(messages), base})
	s.batches = s.batches[max(0, len(s.batches)-rememberedBatches):]
	return base, nil
}

// end writes the marker of a transaction.
func (p *partition) end(id int64, commit bool) {
	if !commit {
		for _, at := range p.open[id] {
			p.entries[at].aborted = true
		}
	}
	delete(p.open, id)
	p.entries = append(p.entries, entry{marker: true})
}
