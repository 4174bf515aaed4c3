# The developer's manual: `make help` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
unexport PYTHONDONTWRITEBYTECODE # without compiled modules every process of a test compiles them again

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.venv/.bootstrap: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Kaon needs Python 3.11 or later; name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

.venv/.run: .venv/.bootstrap requirements/run.txt pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/run.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: .venv/.run requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

install: .venv/.run ## the environment that `make run` uses
develop: .venv/.dev ## the environment that `make test` uses

lock: .venv/.bootstrap ## resolve all requirements anew
	cd requirements && for p in "bootstrap.in -o bootstrap.txt" "../pyproject.toml -o run.txt" "../pyproject.toml --group ../pyproject.toml:dev -c run.txt -o dev.txt"; do \
	  ../$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $$p; done

lint: .venv/.dev ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## put the style right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.dev ## the documentation, into docs/_build
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

run: .venv/.run ## the platform with a real recommender on it, until Ctrl-C
	@$(BIN)/python examples/shop/run.py

test: lint docs ## everything that must be green
	$(BIN)/pytest -rfEs -n 4 --dist loadfile --no-loadscope-reorder --junitxml .venv/test-results.xml

openapi: .venv/.run ## write docs/reference/openapi.json anew
	$(BIN)/python -m kaon.api docs/reference/openapi.json

words: .venv/.run ## write src/kaon/words/kaon.pot, every text that users read, anew
	$(BIN)/python -m kaon.words

bench-recommend: .venv/.run ## quality of the shop's recommendations, and their latency; QUICK=1 for a minute
	@$(BIN)/python -m benchmarks.recommend

bench-serving: .venv/.dev ## what a request costs, beside raw ASGI, FastAPI, BentoML, LitServe, Ray Serve; QUICK=1
	@$(BIN)/python -m benchmarks.serving

bench-batching: .venv/.dev ## what batching gains, beside the bare model; QUICK=1
	@$(BIN)/python -m benchmarks.batching

bench-start: .venv/.dev ## how quickly platform, deployment and replica are there, and their memory; QUICK=1
	@$(BIN)/python -m benchmarks.start

test-browser: .venv/.dev ## pages in a real Chromium, which it installs into .venv/browser; part of `make test`
	KAON_BROWSER=1 $(BIN)/pytest tests/e2e/test_browser.py

test-runtime-lowest: .venv/.dev ## kaon-runtime with the lowest and newest versions of what it requires, and pinned libraries
	KAON_CHAOS=1 $(BIN)/pytest tests/integration/test_runtime_versions.py

chaos: .venv/.dev ## the fault tests with many more kills: about an hour
	KAON_CHAOS=10 $(BIN)/pytest tests/e2e/test_faults.py
	KAON_CHAOS=1 $(BIN)/pytest tests/e2e/test_tuning_faults.py
	KAON_CHAOS=100 $(BIN)/pytest tests/integration/test_store_faults.py
	KAON_CHAOS=1 $(BIN)/pytest -n 2 tests/properties
	KAON_CHAOS=5 $(BIN)/pytest tests/integration/agent/test_job_faults.py
	KAON_CHAOS=1 $(BIN)/pytest tests/e2e/test_canary.py tests/e2e/test_overload.py tests/integration/edge tests/integration/agent

.PHONY: help install develop lock lint format docs run test test-browser test-runtime-lowest openapi words chaos
.PHONY: bench-recommend bench-serving bench-batching bench-start

bench-autoscale: .venv/.dev ## scaling laws on real load, by the simulator; TRACES=DIR, QUICK=1
	@TRACES=$(TRACES) $(BIN)/python -m benchmarks.autoscale

bench-control: .venv/.dev ## what a tick of the scaling law costs for 5,000 replicas; QUICK=1
	@$(BIN)/python -m benchmarks.control

.PHONY: bench-autoscale bench-control

bench-live: .venv/.dev ## scaling laws on the real platform under compressed load, and Ray Serve itself; TRACES=DIR, QUICK=1
	@TRACES=$(TRACES) $(BIN)/python -m benchmarks.live

.PHONY: bench-live

bench-tune: .venv/.dev ## the tuner against peers, live descent, Optuna, hindsight; TRACES=DIR, SEEDS=10, CHUNK_S, QUICK=1
	@TRACES=$(TRACES) $(BIN)/python -m benchmarks.tune

.PHONY: bench-tune

bench-tune-few: .venv/.dev ## the tuner where few calls come; TRACES=DIR, SEEDS=5, JOBS=2, QUICK=1
	@TRACES=$(TRACES) $(BIN)/python -m benchmarks.tune_few

.PHONY: bench-tune-few

bench-overload: .venv/.dev ## three times more than can be served, from callers who come again at once; QUICK=1
	@$(BIN)/python -m benchmarks.overload

.PHONY: bench-overload

bench-data: .venv/.dev ## push and mount of datasets beside rclone: 10,000 small files, one of 2 GB; QUICK=1
	@$(BIN)/python -m benchmarks.data

.PHONY: bench-data

bench-canary: .venv/.dev ## a canary's test: false alarms, calls until a bad one is found, cost of a look; QUICK=1
	@$(BIN)/python -m benchmarks.canary

.PHONY: bench-canary

bench-wake: .venv/.dev ## what callers wait at zero beyond a replica's own start, and that none is lost; QUICK=1
	@$(BIN)/python -m benchmarks.wake

.PHONY: bench-wake

bench-tune-live: .venv/.dev ## the tuner on the real platform: before, while it tunes, and with what it found; TRACES=DIR, QUICK=1
	@TRACES=$(TRACES) $(BIN)/python -m benchmarks.tune_live

.PHONY: bench-tune-live

bench-jobs: .venv/.dev ## jobs: submissions a second, and a decision of the queue while 100,000 wait; QUICK=1
	@$(BIN)/python -m benchmarks.jobs

.PHONY: bench-jobs
