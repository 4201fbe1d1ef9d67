# What a person or a CI job types. Everything else is Cargo.

CARGO ?= cargo

.PHONY: help demo test soak bench bench-stall bench-dataplane clients image

help:
	@echo "make demo    two real Kafka clusters, the proxy, a switchover and a failover under load (ARGS='--seconds 60')"
	@echo "make test    formatting, lints, unit and property tests, integration tests on real Kafka"
	@echo "make soak    the integration tests with the full number of repetitions"
	@echo "make bench   stalls of switchovers and failovers, and the data plane's cost beside its peers; parts of it:"
	@echo "             make bench-stall ARGS='--runs 5', make bench-dataplane ARGS='produce consume --rounds 5'"
	@echo "make clients every client library through cutovers (ARGS='java-4.3.1 sarama'; ARGS=--list)"
	@echo "make image   the container image"

demo: kafka
	$(CARGO) build --release --bin kafka-standby --example demo
	$(CARGO) run --release --quiet --example demo -- $(ARGS)

# Each integration test runs whole clusters, which wait most of the time: two at a time keep two cores busy.
TEST_THREADS ?= 2

test: kafka
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test --lib --bins
	TEST_THREADS=$(TEST_THREADS) sh tests/run-it.sh $(CARGO)

# The same code as `make test`, with the full counts.
soak: kafka
	SOAK=1 $(CARGO) test --release --test it -- --test-threads=1 --nocapture

bench: bench-dataplane bench-stall

bench-stall: kafka
	$(CARGO) bench --bench stall -- $(ARGS)

# Thousands of connections need as many files, twice in the proxy.
bench-dataplane: kafka
	@sh tests/fetch-kafka.sh 4.3.1 mirror >/dev/null
	ulimit -n "$$(ulimit -Hn)" && $(CARGO) bench --bench dataplane -- $(ARGS)

clients: kafka
	$(CARGO) build --release --bin kafka-standby --example clients
	$(CARGO) run --release --quiet --example clients -- $(ARGS)

image:
	docker build -t kafka-standby .

# The jars, beforehand: so that a missing tool is said before a long build, and no test waits for them.
.PHONY: kafka
kafka:
	@sh tests/fetch-kafka.sh 4.3.1 >/dev/null
	@sh tests/fetch-kafka.sh 3.9.2 >/dev/null
