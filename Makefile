# make test is everything that is checked. It fetches what it needs: modules, and Kafka's jars by Maven.

GO       ?= go
FUZZTIME ?= 10s

# Tests below test/ start processes and brokers. They run last, and without the race detector, which
# would change the timing of what they measure; the packages they exercise run under it before.
UNIT  = $$($(GO) list ./... | grep -v -e /test/integration -e /test/chaos)
WHOLE = $$($(GO) list ./test/...)

.PHONY: build test check unit integration demo bench bench-scale bench-page profile chaos chaos-selftest fuzz generate clean

build:
	mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/ ./cmd/jobmanager ./cmd/taskmanager ./cmd/sluice

test: check unit integration

check:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags failpoints ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./internal/protogen -root proto -check
	$(GO) test ./internal/tidy

# Bugs that can be seeded in the cores are seeded, and have to be found.
# What must not allocate is checked once more without the race detector, which allocates itself.
unit:
	$(GO) test -race -timeout 10m $(UNIT)
	$(GO) test -tags failpoints -run Seeded ./connector/kafka/transaction ./test/sim
	$(GO) test -count=1 -run Alloc ./connector/... ./operator/... ./state ./taskmanager/...

integration:
	$(GO) test -count=1 -p 1 -timeout 45m $(WHOLE)

# Needs Go only: the broker is kfake, an embedded imitation of Kafka.
demo:
	@$(GO) run ./cmd/sluice demo

# Nearly an hour without Flink. BENCH takes its flags: make bench BENCH='--only recovery --kills 3'.
BENCH ?=
bench:
	$(GO) run ./bench $(BENCH)

# What coordination costs at 10 to 10,000 subtasks: a real job manager, simulated task managers; 6 minutes. Exactly-once
# steps run on a real Kafka: with Go only, make bench-scale SCALE='--kafka kfake --max-exactly-once 100'.
SCALE ?=
bench-scale:
	$(GO) run ./bench/scale $(SCALE)

# The page with all figures; they stay beside it as JSON. Needs a machine that does nothing else meanwhile, for
# hours. It is measured in parts, so that an interruption costs one of them; what is compared is within one
# part. Runs that are profiled are slower, so they are runs of their own.
FIGURES = jobs pass-100 pass-1024 loops times latency scale profiles
bench-page:
	mkdir -p docs/bench bin/bench bin/profiles
	$(GO) run ./bench --only throughput --cases filter,json,count --json bin/bench/jobs.json
	$(GO) run ./bench --only throughput --cases pass,produce,consume --sizes 100 --json bin/bench/pass-100.json
	$(GO) run ./bench --only startup,first-output,latency,checkpoints,recovery --json bin/bench/times.json
	$(GO) run ./bench --only latency --latency-modes exactly-once/100ms --latency-rates 1000 --latency 15s --repeats 5 --json bin/bench/latency.json
	$(GO) run ./bench --only throughput --cases pass,produce,consume --sizes 1024 --json bin/bench/pass-1024.json
	$(GO) run ./bench --only throughput --cases pass,filter --compression none --contestants sluice,bare,bare-txn,bare-recode --repeats 5 --json bin/bench/loops.json
	$(GO) run ./bench/scale --json bin/bench/scale.json
	$(GO) run ./bench --only throughput --contestants sluice,bare,bare-txn,bare-recode --modes off,exactly-once/1s,exactly-once/100ms --profile bin/profiles --json bin/bench/profiles.json
	cp $(FIGURES:%=bin/bench/%.json) docs/bench/
	rm -f $(filter-out $(FIGURES:%=docs/bench/%.json),$(wildcard docs/bench/*.json))
	$(GO) run ./bench --from $$(echo $(FIGURES:%=docs/bench/%.json) | tr ' ' ,) --page docs/BENCHMARKS.md

# CPU profiles of a cluster while one of the benchmark's jobs runs: pass (or passthrough), filter, split, json or count.
JOB ?= pass
profile:
	mkdir -p bin/profiles
	$(GO) run ./bench --only throughput --contestants sluice --cases $(JOB:passthrough=pass) --modes at-least-once/1s --sizes 100 --compression none --repeats 1 --profile bin/profiles --json bin/profiles/$(JOB:passthrough=pass).json

# Seeds one bug after the other and shows what catches it.
chaos-selftest:
	$(GO) run ./test/chaos --selftest --seeded docs/seeded.jsonl

# Every fault of test/chaos with three seeds, and random ones for two minutes, twenty times: hours. make test runs a
# smoke of it. It goes on where it was interrupted; runs of another commit are made again, unless --accept names it.
chaos:
	$(GO) run ./test/chaos --faults all --seeds 3 --mixed 20 --journal .chaos.jsonl --seeded docs/seeded.jsonl --report docs/RELIABILITY.md

# Every fuzz target for FUZZTIME. New inputs go to Go's cache; a crash is written below testdata/.
fuzz:
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done; \
	done

generate:
	$(GO) generate ./...

clean:
	rm -rf bin
