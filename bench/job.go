package main

import "slices"

// The jobs. Every contestant that does a job makes the same records of the same data.
const (
	casePass   = "pass"
	caseFilter = "filter"
	caseSplit  = "split"
	caseJSON   = "json"
	caseCount  = "count"
	// Of Kafka's own tools, as a ceiling.
	caseProduce = "produce"
	caseConsume = "consume"
)

// job is one of them, for every contestant.
type job struct {
	name string
	kind dataKind
	// operators is the part of Sluice's job file between source and sink, and last the vertex that the sink
	// reads from. format and keyFormat are the source's, partitioner the sink's; empty: string, bytes, preserve.
	operators, last                string
	format, keyFormat, partitioner string
	// loopArgs make the franz-go and kafka-go loops do the same.
	loopArgs []string
	// everywhere jobs are done at every size and compression, the others once.
	everywhere bool
	// half jobs only write or only read: they say what Kafka's tools do with a topic, and nobody else does them.
	half bool
	// want is what must be in the output.
	want func(*dataset) expectation
}

// jobs lists every job.
//
// pass copies key, value, headers and timestamp to the same partition, in order. Data: lines.
//
// filter is pass of the records whose value begins with the bytes "level=info": three of four. Data: lines.
//
// split keeps the same records as filter, by the first of the words between spaces, with the list of all
// words made for each record. Data: lines.
//
// json keeps the records whose field status is less than 500, three of four, with key, timestamp, partition
// and order of the input. The value is a JSON object of four fields in this order, without spaces:
//
//	{"durationMs":37,"late":false,"region":"eu-central","seq":"000000000123"}
//
// where durationMs, region and seq are the input's, and late is durationMs > 250. The input is to be parsed by a
// JSON parser: its fields may come in any order, with any spaces. Data: objects.
//
// count counts the records of each key: one record of output for each of input, with the key, and as the value
// the number of records of the key so far, itself included, as decimal text: 1, 2, 3 and so on. All records of
// a key go to the same partition, which one is up to the contestant, in the order of the numbers. Timestamps
// are not compared. Data: keyed. Contestants of several processes exchange by hash of the key.
//
// produce writes as many records as the data has, values taken at random from its lines. consume reads the data
// and writes nothing.
var jobs = []*job{
	{name: casePass, kind: lines, everywhere: true, last: "in", want: everything},
	{name: caseFilter, kind: lines, format: "bytes", operators: `kept: {from: in, filter: 'value.startsWith(b"` + infoStart + `")'}`, last: "kept",
		loopArgs: []string{"-prefix", infoStart}, want: keptOnly},
	{name: caseSplit, kind: lines, operators: `kept: {from: in, filter: 'value.split(" ")[0] == "` + infoStart + `"'}`, last: "kept",
		loopArgs: []string{"-word", infoStart}, want: keptOnly},
	{name: caseJSON, kind: objects, format: "json", last: "short", loopArgs: []string{"-json"}, want: keptOnly,
		operators: `kept: {from: in, filter: 'value.status < 500'}
  short: {from: kept, map: {value: '{"durationMs": value.durationMs, "late": value.durationMs > 250, "region": value.region, "seq": value.seq}'}}`},
	{name: caseCount, kind: keyed, keyFormat: "string", partitioner: "key", operators: `counted: {from: in, keyBy: key, count: {}}`, last: "counted",
		loopArgs: []string{"-count"}, want: func(d *dataset) expectation { return d.counts }},
	{name: caseProduce, kind: lines, everywhere: true, half: true, want: func(d *dataset) expectation { return amount(d.records) }},
	{name: caseConsume, kind: lines, everywhere: true, half: true, want: func(*dataset) expectation { return amount(0) }},
}

func everything(d *dataset) expectation { return &d.all }
func keptOnly(d *dataset) expectation   { return &d.kept }

func jobNames() []string {
	var names []string
	for _, j := range jobs {
		names = append(names, j.name)
	}
	return names
}

// wholeJobs are the names of those that read and write.
func wholeJobs() []string {
	return slices.DeleteFunc(jobNames(), func(name string) bool { return jobByName(name).half })
}

// jobByName finds one of jobs; nil: there is none.
func jobByName(name string) *job {
	if i := slices.IndexFunc(jobs, func(j *job) bool { return j.name == name }); i >= 0 {
		return jobs[i]
	}
	return nil
}
