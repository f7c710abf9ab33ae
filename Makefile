# `make` alone lists the targets. `make demo` and `make test` each work as the first command on a machine that has
# Python 3.11 or later and make: what they need is installed into .venv, pinned and checked by hash.

# The first interpreter that runs and is new enough. Set PYTHON=... to choose another.
CANDIDATES := python3.11 python3.12 python3.13 python3 python3.14
FITS := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do "$$p" -c '$(FITS)' >/dev/null 2>&1 && echo "$$p" && break; done)

VENV := .venv
LINT := .venv-lint
PY := $(VENV)/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.parcours-installed
LINT_INSTALLED := $(LINT)/.parcours-installed
KAFKA := .parcours/kafka
KAFKA_FETCHED := $(KAFKA)/.fetched

FOR ?=
JOBS ?= 2
MINUTES ?= 10
BROKER ?=
SEED ?=
ARGS ?=
SOURCES := $(wildcard models attribution streams tests bench docs/generate.py prometheus/build.py grafana)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test mutants kafka test-kafka check lint types imports format docs schemas rules dashboards lock bench chaos soak pictures clean

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo FOR=60        stop the demo by itself after 60 seconds"
	@echo "  make test JOBS=4        four test processes (default 2)"
	@echo "  make test ARGS='-k fx'  pass options on to pytest (bench takes ARGS too)"

# $(call environment,DIR): make the virtual environment DIR, unless it works already.
define environment
	@test -n "$(PYTHON)" || { echo "Parcours needs Python 3.11 or later; none of $(CANDIDATES) is. Install one, or say: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c '$(FITS)' || { echo "Parcours needs Python 3.11 or later; $(PYTHON) is older or does not run." >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(1) || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv." >&2; exit 1; }
endef

install: $(INSTALLED) ## install Parcours and all that its demo and tests need into .venv

$(INSTALLED): requirements-dev.lock pyproject.toml
	$(call environment,$(VENV))
	@echo "Installing into $(VENV) (a minute or two the first time)..."
	@$(PY) $(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@PYTHONWARNINGS=ignore $(PY) $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(LINT_INSTALLED): requirements-lint.lock
	$(call environment,$(LINT))
	@echo "Installing the lint tools into $(LINT)..."
	@$(LINT)/bin/python $(PIP_INSTALL) --require-hashes -r requirements-lint.lock
	@echo '*' > $(LINT)/.gitignore
	@touch $@

demo: $(INSTALLED) ## run everything here: broker, Redis, worker and a simulated shop (FOR=seconds)
	@$(VENV)/bin/parcours demo $(if $(FOR),--for $(FOR))

test: $(INSTALLED) ## run all tests
	@$(PY) -m pytest -n $(JOBS) --dist loadscope $(ARGS)

kafka: $(KAFKA_FETCHED) ## fetch Apache Kafka for the integration tests (needs java and mvn)

$(KAFKA_FETCHED): tests/kafka/pom.xml
	@command -v java >/dev/null && command -v mvn >/dev/null || { echo "Apache Kafka for the tests needs java and mvn; on Debian and Ubuntu install openjdk-17-jre-headless and maven." >&2; exit 1; }
	@rm -rf $(KAFKA)
	@echo "Fetching Apache Kafka into $(KAFKA)..."
	@mvn --quiet --batch-mode --file tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/$(KAFKA)"
	@touch $@

test-kafka: $(INSTALLED) $(KAFKA_FETCHED) ## run the integration tests on Apache Kafka
	@PARCOURS_TEST_BROKER=apache $(PY) -m pytest -n $(JOBS) --dist loadscope tests/integration $(ARGS)

check: lint types imports test ## what CI runs: lint, types, import rules, then all tests

mutants: $(INSTALLED) ## take each protection out in turn and see which simulation notices
	@$(PY) -m tests.simulation.mutants

lint: $(LINT_INSTALLED) ## ruff: rules and format
	@$(LINT)/bin/ruff check $(SOURCES)
	@$(LINT)/bin/ruff format --check $(SOURCES)

types: $(INSTALLED) $(LINT_INSTALLED) ## mypy: strict for models and attribution
	@$(LINT)/bin/mypy --python-executable $(PY)

imports: $(LINT_INSTALLED) ## import-linter: which package may import which
	@$(LINT)/bin/lint-imports --no-logo

format: $(LINT_INSTALLED) ## put the code in format, imports in order
	@$(LINT)/bin/ruff check --fix $(SOURCES)
	@$(LINT)/bin/ruff format $(SOURCES)

docs: $(INSTALLED) ## write docs/schemas/ and docs/errors.md from the code
	@$(PY) docs/generate.py

schemas: docs ## the same as docs

rules: $(INSTALLED) ## write prometheus/rules/recorded.yml from the families in the code
	@$(PY) prometheus/build.py

dashboards: $(INSTALLED) ## write grafana/dashboards/ from the builders in grafana/
	@$(PY) -m grafana.build

# Without UPGRADE=1 the versions in the locks stay, as far as pyproject.toml still allows them.
COMPILE = $(LINT)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header $(if $(UPGRADE),--upgrade)

lock: $(LINT_INSTALLED) ## write the lock files anew from pyproject.toml (UPGRADE=1: newest versions)
	@$(COMPILE) pyproject.toml --group pyproject.toml:build -o requirements.lock
	@$(COMPILE) pyproject.toml --extra demo --group pyproject.toml:build --group pyproject.toml:test \
		-c requirements.lock -o requirements-dev.lock
	@$(COMPILE) --group pyproject.toml:lint -o requirements-lint.lock

bench: $(INSTALLED) ## measure cost per event (ARGS go to it)
	@$(PY) -m bench $(ARGS)

chaos: $(INSTALLED) ## faults on real processes for MINUTES (BROKER=apache or embedded, SEED=n)
	@PYTHONPATH=tests $(PY) -m chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(BROKER),--broker $(BROKER)) $(ARGS)

soak: $(INSTALLED) ## a worker at a steady rate for MINUTES: memory, lag, rewinds (ARGS go to it)
	@PYTHONPATH=tests $(PY) -m bench.soak --minutes $(MINUTES) $(ARGS)

pictures: $(INSTALLED) ## take the pictures in docs/images of a demo (needs npm, chromium, chromium-driver, prometheus)
	@PYTHONPATH=tests $(PY) -m pictures $(ARGS)

clean: ## remove the environments, caches and local state
	@rm -rf $(VENV) $(LINT) build dist *.egg-info .parcours .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache tests/pictures/node_modules tests/pictures/built
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
