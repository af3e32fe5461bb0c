# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
RUST_SOURCES := $(shell find rust/engine rust/evidence rust/history rust/python -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

.PHONY: help demo test services rust-tests fuzz-smoke fuzz chaos check audit sbom fmt bench detect api docs lock clean build

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Custodes needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

.venv/.built: .venv/.installed pyproject.toml $(RUST_SOURCES)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

build: .venv/.built  ## compile the engine and install custodes into .venv

demo: build  ## a made-up agency with planted insiders, live on http://127.0.0.1:8610
	exec $(BIN)/custodes demo

# Compilers are busy with one core for much of their time, and most tests wait for servers: so things are done side by side.
# A file's tests stay together, as they share what is costly to set up.
test:  ## every test there is, with the servers they need
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target build rust-tests services fuzz-smoke
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

services: .venv/.installed
	tests/services/install

rust-tests: .venv/.installed
	cargo test --quiet --workspace --locked

fuzz-smoke: services
	FUZZ_SEED=1 rust/fuzz/run 20

fuzz:  ## what reads bytes, ten minutes a target
	rust/fuzz/run 600

chaos: build  ## kill -9 two hundred times, ten minutes of faults among three workers and of nobody to be alerted; findings must be the oracle's
	tests/services/install
	CI=true ALERT_OUTAGE=600 CHAOS_KILLS=200 CHAOS_EVENTS=2000000 CHAOS_MINUTES=10 SIMULATION_SCHEDULES=20000 $(BIN)/pytest -s --timeout 3000 \
	    tests/services/test_chaos.py tests/services/test_workers.py tests/services/test_alerts_outage.py tests/property/test_simulation.py

check: build  ## format, lint, types, rules: what a commit must pass
	cargo fmt --all --check
	cargo fmt --manifest-path rust/fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/custodes check --rules python/custodes/rules/pack
	$(BIN)/custodes check --rules python/custodes/rules/own
	$(MAKE) --no-print-directory audit

audit: .venv/.installed  ## what is known to be wrong with the packages it uses
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off
	@if cargo audit --version >/dev/null 2>&1; then cargo audit; \
	    else echo "crates are not looked at: cargo install cargo-audit" >&2; fi

sbom: .venv/.installed  ## what it is made of, as CycloneDX, into custodes.cdx.json
	$(BIN)/python deploy/sbom/materials.py custodes.cdx.json

fmt:  ## format everything
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

bench: build  ## all benchmarks beside their peers, into docs/performance.md
	tests/bench/install
	PYTHONPATH=tests $(BIN)/python tests/bench/report.py

detect: build  ## how well the shipped rules find insiders, beside other methods, into docs/detection.md
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/detection.lock
	PYTHONPATH=tests/bench $(BIN)/python tests/bench/detect.py --write

api: build  ## whatever its schema allows, and what it does not, ten thousand times as each role, sent to the API
	API_CASES=10000 $(BIN)/pytest -s --timeout 3000 tests/e2e/test_api.py

docs: build  ## write docs/reference/ and the dashboards from the definitions
	$(BIN)/python docs/generate.py
	$(BIN)/python deploy/grafana/dashboards.py

lock:  ## choose dependency versions anew and write down their hashes
	$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv
	for lock in "requirements.lock pyproject.toml --group dev" "deploy/container/requirements.lock pyproject.toml" "tests/bench/requirements.lock --group bench" \
	    "tests/bench/detection.lock --group detection"; do \
	    .cache/lock/bin/uv pip compile $${lock#* } --generate-hashes --universal --python-version 3.11 \
	        --no-emit-index-url --no-header --quiet --output-file $${lock%% *}; done

clean:  ## remove what was built
	rm -rf .venv .cache target
