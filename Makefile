# The targets that people and CI use. `make help` lists them; each says what it needs and tries to get it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := build

# The runtime under test; any OCI runtime's absolute path works here, so that a test can be judged by another runtime.
RUNTIME ?= $(CURDIR)/dist/bin/skep
# Rounds of `make bench` and of `make soak`.
ROUNDS ?= 30
SOAK_ROUNDS ?= 20
# The folder of `make conformance` with the checkouts runtime-tools, runc and crun.
SUITES ?=
# Another runtime that runs the failures of `make conformance` too, such as /usr/sbin/runc.
ORACLE ?=
# Names of the tests that `make soak` repeats, as a substring.
SOAK_FILTER ?= lifecycle
# Starts and stops of one container with networks and links, after which `make soak` looks for what is left; 50 in `make test`.
SOAK_CYCLES ?= 1000
# How often `make soak` has each init booted, logged into, rebooted and stopped, all at once; once in `make test`.
SYSTEM_ROUNDS ?= 100
# For how many seconds `make soak` kills whatever works; 15 in `make test`. Above 280 nextest takes it for one that hangs.
DEATHS_SECONDS ?= 240

export CARGO_TERM_PROGRESS_WHEN ?= never

.PHONY: help build run test test-vm conformance check fmt bench bench-check bench-systems soak clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile

build: ## dist/bin/skep: one static, stripped binary
	@.ci/build

run: ## a real container on this machine: limits, a veth with an address, ping, list, and everything removed again (root)
	@.ci/install-packages run
	.ci/build
	docs/first-container

test: ## every test, with the real clients and in the virtual machine (root); ends with "N passed, N failed, N skipped"
	@.ci/install-packages test
	.ci/build bench
	RUNTIME="$(RUNTIME)" cargo xtask test

test-vm: ## the tests that run in the virtual machine alone (root); FILES=resources,exec BOOT=vm-v2 narrow them
	@.ci/install-packages test
	.ci/build
	RUNTIME="$(RUNTIME)" cargo xtask test --lane vm $(addprefix --files ,$(FILES)) $(addprefix --boot ,$(BOOT))

conformance: ## the suites of runtime-tools, runc and crun from checkouts in SUITES=DIR (root); BOOT=native,vm-v2 ONLY=runc/update narrow them
	@[ -n "$(SUITES)" ] || { echo "hint: make conformance SUITES=DIR, see CONTRIBUTING.md" >&2; exit 2; }
	.ci/install-packages conformance
	.ci/build
	RUNTIME="$(RUNTIME)" cargo xtask conformance "$(SUITES)" $(addprefix --boot ,$(BOOT)) $(addprefix --only ,$(ONLY)) $(addprefix --oracle ,$(ORACLE))

check: ## formatting, lints, the rules of the tree, unit tests, the size of the binary, aarch64
	@.ci/check

fmt: ## formats all Rust code
	@cargo fmt --all

bench: ## whole commands of skep against the runtimes that are installed, counts, and work inside (root); CASE=inside narrows it
	@.ci/install-packages bench
	.ci/build bench
	cargo run --quiet --release --package benches -- --runtime skep=dist/bin/skep --runtime floor=dist/bench/floor \
	    --rounds $(ROUNDS) $(addprefix --containers ,$(CONTAINERS)) $(addprefix --save ,$(SAVE)) $(CASE)

bench-check: ## fails where skep is slower, or does more, than benches/budgets.toml allows (root); CASE=count narrows it
	@.ci/install-packages bench
	.ci/build bench
	cargo run --quiet --release --package benches -- --runtime skep=dist/bin/skep --runtime floor=dist/bench/floor \
	    --rounds $(ROUNDS) --check benches/budgets.toml $(CASE)

bench-systems: ## 200 containers of skep against Debian's LXC: start, stop, attach, list, memory of monitors (root)
	@.ci/install-packages bench
	.ci/build
	cargo run --quiet --release --package benches -- --runtime skep=dist/bin/skep --systems --containers 200 --rounds $(ROUNDS) \
	    $(addprefix --save ,$(SAVE))

soak: ## SOAK_CYCLES starts and stops without a leak, each init SYSTEM_ROUNDS times, DEATHS_SECONDS of kill -9, then the tests named by SOAK_FILTER, SOAK_ROUNDS times
	@.ci/install-packages test
	.ci/build
	SOAK_CYCLES=$(SOAK_CYCLES) RUNTIME="$(RUNTIME)" cargo xtask test --package integration starts_and_stops_leak_nothing
	for round in $$(seq $(SYSTEM_ROUNDS)); do
		echo "== each init, round $$round of $(SYSTEM_ROUNDS)"
		RUNTIME="$(RUNTIME)" cargo xtask test --package integration leads_a
	done
	DEATHS_SECONDS=$(DEATHS_SECONDS) RUNTIME="$(RUNTIME)" cargo xtask test --package integration killed_at_any_moment
	for round in $$(seq $(SOAK_ROUNDS)); do
		echo "== round $$round of $(SOAK_ROUNDS)"
		RUNTIME="$(RUNTIME)" cargo xtask test --package integration "$(SOAK_FILTER)"
	done

clean: ## removes what was built
	@cargo clean
	rm -rf dist
