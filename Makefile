# agentvm. Two commands do all the set-up on a fresh machine:
#
#   make demo   runs the main job on real input and shows what it did
#   make test   passes every test
#
# What takes long is cached by content in $(AGENTVM_CACHE); `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

export AGENTVM_CACHE ?= /var/cache/agentvm
export PATH := $(PATH):/usr/local/go/bin:$(HOME)/.cargo/bin
export PATH := $(PATH):$(AGENTVM_CACHE)/tools/bin:/usr/sbin:/sbin

COMMA := ,
SPACE := $() $()

# Shows each step with the time it took.
STEP = step() { local name=$$1 start=$$SECONDS; shift; echo "==> $$name"; \
	"$$@" || { echo "==> $$name FAILED after $$((SECONDS - start)) s" >&2; exit 1; }; \
	echo "==> $$name: $$((SECONDS - start)) s"; }

.PHONY: help
help: ## What can be made.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: packages
packages: ## Install the Debian packages and Rust toolchain that are missing (needs root if any is).
	@.ci/packages
	.ci/toolchain

.PHONY: controlplane
controlplane: packages ## Build etcd, kube-apiserver, kube-controller-manager and kubectl (cached).
	@operator/controlplane/build >/dev/null

.PHONY: image
image: packages ## Build the default guest image (cached).
	@guest-agent/image/build >/dev/null

.PHONY: build
build: packages ## Build target/release/agentvm.
	@cargo build --release --locked -p agentvm-cli --bin agentvm
	# What machines are reset in place with; the program looks for it beside itself.
	cargo build --release --locked -p agentvm-preload --lib

.PHONY: demo
demo: controlplane image build
demo: ## Run the main job on real input and show it. KEEP=1 leaves it running.
	@e2e/demo/run

.PHONY: up
up: controlplane image build ## Run `agentvm standalone` in the foreground: make up DATA_DIR=DIR
	@[ -n "$(DATA_DIR)" ] || { \
		echo "up: say where to keep the data: make up DATA_DIR=/var/lib/agentvm" >&2; \
		exit 2; }
	exec target/release/agentvm standalone --data-dir "$(DATA_DIR)"

# Tests stand on four rungs; CONTRIBUTING.md says which. Each rung above the first is a feature of
# the crates that have such tests. `make test` sets them all, so that one build serves all rungs.
API_TESTS := agentvm-tests/api-tests,agentvm-controlplane/api-tests
HOST_CRATES := agentvm-core agentvm-guest-agent agentvm-hypervisor agentvm-preload agentvm-bench \
	agentvm-cli agentvm-e2e
HOST_TESTS := $(subst $(SPACE),$(COMMA),$(HOST_CRATES:%=%/host-tests))
ALL_TESTS := $(API_TESTS),$(HOST_TESTS)

# Builds all tests, and says where the parts are that they start. Built again one by one, with other
# features, these would take minutes.
BUILD_TESTS = step "build the tests" \
		cargo test --locked --workspace --features $(ALL_TESTS) --no-run; \
	step "build the preload library" cargo build --locked -p agentvm-preload --lib; \
	built=$$(realpath "$${CARGO_TARGET_DIR:-target}")/debug; \
	export AGENTVM_BIN=$$built/agentvm AGENTVM_GUEST=$$built/agentvm-guest

.PHONY: check
check: ## Formatting, clippy, and every test that needs neither root nor programs of the host.
	@$(STEP)
	.ci/toolchain
	pkg-config --exists libvirt || { \
		echo "check: the headers of libvirt are missing; install libvirt-dev and pkg-config" >&2; \
		exit 1; }
	step "format" cargo fmt --all --check
	step "width" .ci/width
	step "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
	step "tests" cargo test --quiet --locked --workspace

.PHONY: test-api
test-api: controlplane
test-api: ## The tests on a real API server, with machines that are processes (needs root).
	@$(STEP)
	$(BUILD_TESTS)
	step "tests on an API server" cargo test --locked --workspace --features $(ALL_TESTS) \
		--test promises --test api --test failures --test lifecycle

.PHONY: test-host
test-host: controlplane image
test-host: ## The tests that need root: on programs of the host, libvirt and guests.
	@$(STEP)
	export AGENTVM_IMAGE=$$(guest-agent/image/build)
	$(BUILD_TESTS)
	# This leaves out the tests of test-api. Their programs are packages of their own, except
	# those of the control plane.
	step "tests on the host" cargo test --locked --workspace \
		--exclude agentvm-tests --exclude agentvm-controlplane --features $(HOST_TESTS)

.PHONY: test
test: controlplane image lint ## Every test there is, on real parts.
	@$(STEP)
	export AGENTVM_IMAGE=$$(guest-agent/image/build)
	$(BUILD_TESTS)
	step "tests" cargo test --no-fail-fast --locked --workspace --features $(ALL_TESTS)

.PHONY: lint
lint: packages ## Formatting, clippy on all rungs, licences and sources of dependencies.
	@$(STEP)
	step "format" cargo fmt --all --check
	step "width" .ci/width
	step "clippy" cargo clippy --locked --workspace --all-targets --features $(ALL_TESTS) \
		-- -D warnings
	command -v cargo-deny >/dev/null || step "install cargo-deny" \
		cargo install --locked --root "$(AGENTVM_CACHE)/tools" cargo-deny@0.20.2
	step "dependencies" cargo deny --log-level error check bans licenses sources

.PHONY: generate
generate: ## Write the generated files anew: manifests/crds, docs/api-reference.md.
	@UPDATE=1 cargo test -q --locked -p agentvm-crds

# The preload library is built without counters: QEMU, which loads it, is confined and can't write
# them. A test that fails ends the recipe, because the lines of a broken test would count as
# covered.
.PHONY: coverage
coverage: controlplane image ## Line coverage of all tests (installs cargo-llvm-cov).
	@$(STEP)
	command -v cargo-llvm-cov >/dev/null || step "install cargo-llvm-cov" \
		cargo install --locked --root "$(AGENTVM_CACHE)/tools" cargo-llvm-cov@0.9.1
	rustup component add llvm-tools
	export AGENTVM_IMAGE=$$(guest-agent/image/build) CARGO_TARGET_DIR=$$PWD/target/coverage
	step "build the preload library" cargo build --locked -p agentvm-preload --lib
	plain=$$CARGO_TARGET_DIR/libagentvm_preload.so
	cp "$$CARGO_TARGET_DIR/debug/libagentvm_preload.so" "$$plain"
	source <(cargo llvm-cov show-env --sh 2>/dev/null)
	cargo llvm-cov clean --workspace
	$(BUILD_TESTS)
	cp "$$plain" "$$built/"
	step "tests" cargo test --no-fail-fast --locked --workspace --features $(ALL_TESTS)
	cargo llvm-cov report --lcov --output-path target/coverage.lcov
	.ci/coverage target/coverage.lcov

.PHONY: fuzz
fuzz: ## Fuzz the wire protocol for a minute (needs nightly and cargo-fuzz).
	@cd guest-agent && cargo +nightly fuzz run decode -- -max_total_time=60

.PHONY: clean
clean: ## Remove what cargo built. The cache stays: rm -r $(AGENTVM_CACHE).
	@cargo clean
