# Each target does all of its own set-up, in .venv. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, each of which would compile everything anew

# Much of a test's time is waiting, for processes and disks: four beside each other keep two cores at work.
SIDE_BY_SIDE := -n 4 --dist worksteal

UPGRADE := --upgrade
COMPILE = $(BIN)/uv pip compile --quiet --universal $(UPGRADE) --python-version 3.11 --no-header --no-emit-index-url --generate-hashes

.DEFAULT_GOAL := help
.PHONY: help demo run desk test test-fast test-pythons test-faults bench bench-ack bench-process bench-e2e bench-send bench-query bench-pages bench-verify lint format api-docs htmx pictures migration pins clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## the main job on a scratch database: a conversation goes out, its receipts come back
	@$(BIN)/python -m receiptsvc demo

run: $(VENV)/installed ## the same, stays up and keeps its data; the conversation is sent once, with ARGS=--empty never
	@$(BIN)/python -m receiptsvc demo --stay $(ARGS)

desk: $(VENV)/installed-dev ## web and worker with the settings of .env, on port 8000
	@touch .env
	@$(BIN)/honcho run $(BIN)/python -m receiptsvc migrate
	@$(BIN)/honcho -f Procfile.desk start

test: $(VENV)/installed-dev ## every test, on SQLite and on a real PostgreSQL
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-fast: $(VENV)/installed-dev ## for who is editing: every test but those that start processes or take a second or more
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not slow" --ignore=tests/web/test_contract.py $(ARGS)

test-pythons: $(VENV)/installed-dev ## a smoke test on every other Python from 3.11 to 3.14 that is at hand: the demo, installed
	$(BIN)/python -m tests.support.pythons

test-faults: $(VENV)/installed-dev ## the long form of fault tests and properties: hundreds of kills, thousands of examples
	RECEIPTSVC_FAULTS=long $(BIN)/python -m pytest -o timeout=1200 -m "long or on_postgresql" $(ARGS)

bench: bench-ack bench-process bench-e2e bench-send bench-query bench-pages bench-verify ## every benchmark

bench-ack: $(VENV)/installed-bench ## what a durable 200 costs, beside what others give for theirs: a quarter of an hour; ARGS=--quick: two minutes
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.ack $(ARGS)

bench-process: $(VENV)/installed-bench ## what it costs to work on receipts, beside the same one by one: a quarter of an hour; ARGS="--backlog 100000": less
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.process $(ARGS)

bench-e2e: $(VENV)/installed-bench ## what a receipt costs through the whole stack, beside the parent commit and Celery: 25 minutes; ARGS=--quick: four; ARGS=--chaos: also beside faults
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.e2e $(ARGS)

bench-send: $(VENV)/installed-bench ## how fast messages go out and are handed in, and what the API feels of it: two minutes
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.send $(ARGS)

bench-query: $(VENV)/installed-bench ## how long the API takes over what it is asked, at a million messages: half an hour; ARGS="--scale 10000000": an hour
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.query $(ARGS)

bench-pages: $(VENV)/installed-bench ## how long the pages of /ops take, at a million messages and in a browser: ten minutes; ARGS="--scale 10000000": half an hour
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.pages $(ARGS)

bench-verify: $(VENV)/installed-bench ## how long `verify` takes over ten million receipts, and how much memory: half an hour; ARGS="--receipts 1000000": three minutes
	@$(BIN)/python -W "ignore:XDG_RUNTIME_DIR" -m benchmarks.verify $(ARGS)

lint: $(VENV)/installed-dev ## format check, linter, strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/installed-dev ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

api-docs: $(VENV)/installed ## write docs/api.md and docs/statuses.md from what the code says
	@$(BIN)/python -m receiptsvc.web docs

htmx: ## fetch the script of the ops page from its npm package; the version is in vendored.toml
	@folder=$$(mktemp -d) && cd $$folder && \
	npm pack --silent htmx.org@$$(sed -n 's/^version = "\(.*\)"/\1/p' $(CURDIR)/receiptsvc/web/ops/vendored.toml) && \
	tar xzf htmx.org-*.tgz && cp package/dist/htmx.min.js $(CURDIR)/receiptsvc/web/ops/static/ && rm -r $$folder
	@sha256sum receiptsvc/web/ops/static/htmx.min.js

pictures: $(VENV)/installed-dev ## take the pictures of the ops page for the docs, by Chromium
	@$(BIN)/python -m tests.support.pictures

migration: $(VENV)/installed-dev ## draft a migration from the models: make migration NAME="add a column"
	$(BIN)/python -m receiptsvc migrate
	$(BIN)/alembic revision --autogenerate -m "$(NAME)"

pins: $(VENV)/installed-dev ## turn the .in files into pinned requirements with hashes, for every platform; UPGRADE= keeps the versions
	$(COMPILE) --extra server pyproject.toml -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) benchmarks/requirements.in -o benchmarks/requirements.txt

clean: ## remove what the targets made, but for the data
	rm -rf $(VENV) .pythons .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is needed (on Debian: apt-get install python3-venv)"; exit 1; }

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing what the service needs …"
	@$(BIN)/pip install --quiet --require-hashes -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@echo "Installing what the tests need …"
	@$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

$(VENV)/installed-bench: benchmarks/requirements.txt $(VENV)/installed-dev
	@echo "Installing what the benchmarks need …"
	@$(BIN)/pip install --quiet --require-hashes -r benchmarks/requirements.txt
	@touch $@
