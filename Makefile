# The menu. What is behind it is Cargo and `cargo xtask`; nothing happens here that cannot be run by hand.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Outside the checkout, so that every clone on a machine shares the built dependencies.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lantern/target

# Where `.ci/install` puts a Node.js that is new enough, on machines that have an older one.
export PATH := $(CARGO_TARGET_DIR)/node/bin:$(PATH)

# Cargo tells sources apart by their age and not by their folder, so what another checkout built here would pass for
# ours. Whoever comes to the folder after another checkout makes its own sources the newest.
.PHONY: claim
claim:
	@mkdir -p "$(CARGO_TARGET_DIR)"; mine="$(CURDIR) $$(ls -di .)"; stamp="$(CARGO_TARGET_DIR)/.checkout"; \
	if [ "$$(cat "$$stamp" 2>/dev/null || true)" != "$$mine" ]; then \
		find bench crates xtask migrations -type f -exec touch -c {} +; printf '%s\n' "$$mine" >"$$stamp"; \
	fi

# Arguments for `lantern dev`, as in: make dev ARGS="--listen 127.0.0.1:9000"
ARGS ?=

.PHONY: help
help: ## List the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: dev
dev: claim ## Build and start everything in one process: make dev ARGS="--listen 127.0.0.1:9000"
	@.ci/install build
	@.ci/dashboard build
	@cargo build --bin lantern
	@exec "$(CARGO_TARGET_DIR)/debug/lantern" dev $(ARGS)

.PHONY: dashboard
dashboard: ## Build the dashboard, where there is Node.js; the next build of the program has it
	@.ci/dashboard build

.PHONY: watch
watch: claim ## The same, built and started again whenever a source file changes
	@.ci/install build
	@cargo xtask watch $(ARGS)

# One process for each test program, so that its tests share one PostgreSQL cluster. Documentation examples are not
# compiled (`tidy` keeps them plain text), so these are all tests there are.
.PHONY: test
test: claim ## Install what the tests lack, then run every test
	@.ci/install test
	@.ci/dashboard build
	@code=0; boxes=--features=lantern/boxes,lantern-sandbox/boxes; \
	[ "$$(id -u)" = 0 ] || { boxes=; echo 'SKIPPED the tests that make boxes: only root can make them'; }; \
	cargo test --workspace --locked --no-fail-fast --lib --bins --tests $$boxes || code=$$?; \
	.ci/dashboard test || code=$$?; exit $$code

.PHONY: check
check: claim ## Everything else that must hold: format, lints, structure, dependencies, documentation
	@.ci/install build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features=lantern/boxes,lantern-sandbox/boxes --locked -- --deny warnings
	cargo xtask tidy
	cargo xtask deps
	@for bug in crates/sim/bugs/*.patch crates/sim/bugs/system/*.patch; do git apply --check "$$bug" || exit 1; done # planted bugs fit the code
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked --quiet

# What `check` looks at, by the name that others give it.
.PHONY: lint
lint: check ## The same as check

# The licences, bans and duplicates are part of `check`; what is known to be vulnerable changes without a change here, so
# it is asked for apart, where the list of it can be reached.
.PHONY: audit
audit: claim ## Licences, banned and doubled dependencies, and known vulnerabilities where their list can be reached
	@.ci/install build
	@CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" .ci/audit

.PHONY: ci-local
ci-local: ## All that must hold before a change lands, as it runs elsewhere
	@.ci/run

.PHONY: test-db
test-db: claim ## The tests of the store and of the API, on SQLite and on PostgreSQL
	@.ci/install test
	@cargo test --locked --no-fail-fast -p lantern-store -p lantern-control --lib --tests

.PHONY: test-e2e
test-e2e: claim ## The tests of the real program: servers, kills, terminals
	@.ci/install test
	@cargo test --locked --no-fail-fast -p lantern --test it e2e::

.PHONY: test-dashboard
test-dashboard: claim ## The tests of the dashboard alone: its logic, and its pages in a real browser
	@.ci/install test
	@.ci/dashboard test

# One seed again: make sim SEED=1234, or SEED=1234 TIER=--system for the real system.
SEEDS ?= 2000
SEED ?=
TIER ?=
.PHONY: sim
sim: claim ## Run seeds of both tiers of the simulator: make sim SEEDS=10000
	@.ci/install build
ifneq ($(SEED),)
	@cargo run --quiet --release -p lantern-sim -- $(TIER) --seed $(SEED)
else
	@cargo run --quiet --release -p lantern-sim -- --seeds $(SEEDS)
	@cargo run --quiet --release -p lantern-sim -- --system --seeds $$(( $(SEEDS) / 20 + 1 ))
endif

# Some of it: make bench ONLY="durable alone"; half an hour of everything: ONLY=soak. TMPDIR chooses the disk that is measured, SYNC_DELAY_US makes it slower.
ONLY ?=
SYNC_DELAY_US ?=
SLOWER := $(if $(SYNC_DELAY_US),SYNC_DELAY_US=$(SYNC_DELAY_US) LD_PRELOAD="$(CARGO_TARGET_DIR)/slow-disk.so")
.PHONY: fuzz
fuzz: claim ## Send a real server what its description of the API allows, and what it does not
	@.ci/install test
	@CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" .ci/fuzz-api

.PHONY: test-upgrade
test-upgrade: claim ## Run the version before this one and this one side by side on one PostgreSQL
	@.ci/install test
	@CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" .ci/upgrade

.PHONY: test-model
test-model: claim ## Run agents, streams, a cap and a failover against a real, small model on this machine
	@.ci/install test
	@CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)" .ci/model

.PHONY: bench
bench: claim ## Measure speed and memory, each figure beside its limit: make bench ONLY="durable alone"
	@.ci/install test
	@cargo build --quiet --release --locked -p lantern
	@[ -z "$(SYNC_DELAY_US)" ] || cc -shared -fPIC -O1 -o "$(CARGO_TARGET_DIR)/slow-disk.so" bench/slow-disk.c
	@cargo bench --quiet --locked -p lantern-bench --bench measure --no-run
	@$(SLOWER) cargo bench --quiet --locked -p lantern-bench --bench measure -- $(ONLY)

.PHONY: gen
gen: claim ## Write anew what is generated: goldens, help texts, config.example.toml, docs/environment.md; look at the diff
	@.ci/install test
	@UPDATE=1 cargo test --quiet --locked -p lantern-engine -p lantern-llm -p lantern-store -p lantern-control -p lantern-gateway
	@UPDATE=1 cargo test --quiet --locked -p lantern --bin lantern
	@UPDATE=1 cargo test --quiet --locked -p lantern --test it -- cli_help description

.PHONY: seed
seed: claim ## Fill the dev tenant of a running `make dev` by really running a few agents
	@.ci/install build
	@cargo build --quiet --bin lantern
	@examples/seed.sh "$(CARGO_TARGET_DIR)/debug/lantern"

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
