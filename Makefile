# What there is to do here. `make` alone says so.
#
# Everything below works from a fresh clone; `setup` installs what is missing and says what it does.

TARGET := $(or $(CARGO_TARGET_DIR),target)
ESTATE := -p strangler -p legacy-monolith -p estate-pricing -p estate-payment -p estate-load -p estate-demo
# Further arguments, as in: make demo ARGS="--rate 200 --seconds 60", make bench ARGS="--only nginx,strangler --scenarios get"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-clients test-browser lint format clippy unit deny bench bench-build bench-setup bench-decisions load release-pgo coverage clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what the build needs and is missing (cmake, a C compiler, clippy, rustfmt)
	@deploy/dev/setup.sh build

demo: setup ## Start monolith, services, proxy and shoppers; Ctrl-C stops all of it
	cargo build --profile demo $(ESTATE)
	@$(TARGET)/demo/estate-demo $(ARGS)

test: lint unit deny ## Everything that must be green: format, clippy, all tests

test-clients: setup ## Real clients and servers through the proxy: curl, h2load, grpcio, httpx, websockets
	cargo build --locked -p strangler
	@tests/clients/run.sh $(TARGET) $(ARGS)

test-browser: setup ## A real browser before the dashboard: pages, controls, keyboard, policy, accessibility
	cargo build --locked -p strangler
	@tests/browser/run.sh $(TARGET)

# Half an hour of it is the soak; SOAK_SECONDS=60 for less, ONLY=load::upgrades for one of them, LOAD_PROFILE=release for what ships.
LOAD_PROFILE ?= demo
ONLY ?= load::
load: setup ## The promises under load at their full size, in one table (about an hour; for a quiet machine)
	@mkdir -p $(TARGET)
	@LOAD=full cargo test --locked --profile $(LOAD_PROFILE) -p strangler --test it $(ONLY) -- --test-threads=1 --nocapture >$(TARGET)/load.log 2>&1; \
	status=$$?; [ "$(ONLY)" != load:: ] || LOAD=full cargo test --locked --profile $(LOAD_PROFILE) -p strangler-core --test judge -- --nocapture >>$(TARGET)/load.log 2>&1 || status=1; \
	sed -n 's/.*load | /  /p' $(TARGET)/load.log; echo "all of it: $(TARGET)/load.log"; exit $$status

lint: format clippy ## Format and clippy, warnings are errors

format: setup
	cargo fmt --all --check

clippy: setup
	cargo clippy --workspace --all-targets --locked -- -D warnings

# nextest runs each test in a process of its own, but no documentation tests.
unit: setup
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --workspace --locked && cargo test --workspace --locked --doc; \
	else \
		set -x; cargo test --workspace --locked; \
	fi

# Advisories need their database: without a network the rest is still checked.
deny:
	@if cargo deny --version >/dev/null 2>&1; then \
		set -x; cargo deny --locked check licenses bans sources || exit 1; \
		if cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
		else echo "the advisory database cannot be fetched: advisories are not checked"; fi; \
	else \
		echo "cargo-deny is not here: licences, bans and advisories are not checked (cargo install --locked cargo-deny)"; \
	fi

bench: bench-build ## The proxy beside nginx, HAProxy and Envoy on the same work, as ratios
	@$(TARGET)/release/bench-peers $(ARGS)

bench-build: setup
	cargo build --release -p strangler -p strangler-bench

release-pgo: setup ## The release binary, guided by a profile of itself at work: target/strangler-pgo
	@deploy/dev/pgo.sh $(TARGET)/strangler-pgo $(TARGET)

bench-setup: ## Install the peers that bench measures against (nginx, HAProxy, Envoy)
	@deploy/dev/setup.sh bench $(TARGET)/bench-venv

bench-decisions: setup ## Criterion benches of matching, the split, the comparison and the judge
	cargo bench -p strangler-bench $(ARGS)

# The loader's part of the core is tested with the YAML reader, which is the shell's: both packages run, the core is counted.
NOT_CORE := $(CURDIR)/(benches|extracted|legacy-monolith|tests)/|$(CURDIR)/src/([^c]|c[^o]|co[^r])
coverage: setup ## Line coverage of src/core, by cargo-llvm-cov
	@if cargo llvm-cov --version >/dev/null 2>&1; then \
		set -x; cargo llvm-cov --locked -p strangler-core -p strangler --summary-only --ignore-filename-regex '$(NOT_CORE)'; \
	else \
		echo "cargo-llvm-cov is not here: rustup component add llvm-tools && cargo install --locked cargo-llvm-cov"; exit 1; \
	fi

clean: ## Remove what was built and what demos left
	cargo clean
	rm -rf .demo
