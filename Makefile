# `make` alone lists the commands. PYTHON chooses the interpreter, HARDWARE=gpu the GPU build, PORT=8001 the port.
PYTHON ?= python3
HARDWARE ?= cpu
HOME_DIR ?= .saefari

VENV := .venv
BIN := $(VENV)/bin
SAEFARI := $(BIN)/saefari
OTHER := $(if $(filter gpu,$(HARDWARE)),cpu,gpu)
INSTALLED := $(VENV)/.installed-$(HARDWARE)
INSTALLED_DEV := $(VENV)/.installed-dev-$(HARDWARE)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --max-worker-restart 0 --dist loadfile
PEERS := $(basename $(notdir $(wildcard benchmarks/peers/*.txt)))
# The two faiss packages install the same folder, so the other one leaves first.
FORGET_OTHER = @rm -f $(VENV)/.installed-*; $(BIN)/python -m pip uninstall -qqy faiss-$(OTHER) 2>/dev/null

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-dev demo serve test test-needs attack audit faults soak check format bench peers clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: install ## build an explorer of the docstrings on this machine (first time) and serve it
	@$(SAEFARI) demo --home $(HOME_DIR)$(if $(PORT), --port $(PORT))

serve: install ## serve what has been built in .saefari
	@$(SAEFARI) serve --home $(HOME_DIR)$(if $(PORT), --port $(PORT))

# Playwright keeps an event loop running in its process, so browser tests have processes of their own.
test: install-dev test-needs ## run all tests, in random order, several at a time
	@$(PYTEST) --ignore tests/browser
	@$(PYTEST) tests/browser

attack: install-dev ## send the application 10,000 requests that were made to do harm (minutes)
	@ATTACK_REQUESTS=10000 $(BIN)/python -m pytest tests/app/test_attacks*.py

audit: .audit/.installed ## ask an advisory service about every version of constraints.txt (needs the network)
	@.audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt \
	  || { echo "The audit failed: a version has an advisory, or could not be asked about. See above." >&2; exit 1; }

faults: install-dev test-needs ## kill -9, full disks, databases that go away, 200 rounds (half an hour)
	@FAULT_ROUNDS=200 $(BIN)/python -m pytest -s tests/faults tests/app/test_workers.py

soak: install-dev ## 200 visitors for ten minutes, on one server process, then on two
	@for workers in 1 2; do $(BIN)/python -m tests.soak.run --home $(HOME_DIR) --workers $$workers || exit 1; done

check: install-dev ## ruff, mypy --strict, then the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(MAKE) --no-print-directory test

format: install-dev ## let ruff lay out the code and mend what it safely can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install-dev ## run every benchmark (an hour and more); each ends with one line of JSON
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

peers: $(PEERS:%=.peers/%/.installed) ## install the other packages that training is compared with, and conversions are tested against

clean: ## remove caches and what was built, except .venv, .peers and .saefari
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis test-results
	@find . -path ./$(VENV) -prune -o -path ./.peers -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(INSTALLED)

install-dev: $(INSTALLED_DEV)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Saefari needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(INSTALLED): $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing Saefari ($(HARDWARE)) into $(VENV); the first time takes a few minutes."
	$(FORGET_OTHER)
	@$(PIP) --editable '.[$(HARDWARE)]'
	@touch $@

$(INSTALLED_DEV): $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing Saefari ($(HARDWARE)) and the tools for its tests into $(VENV); the first time takes a few minutes."
	$(FORGET_OTHER)
	@$(PIP) --editable '.[$(HARDWARE),dev]'
	@touch $(INSTALLED) $@

# Each in an environment of its own. torchvision comes with one of them, and where it was not built for the torch
# that is installed, importing that peer fails; nobody here needs it.
.peers/%/.installed: benchmarks/peers/%.txt
	@echo "Installing $* into .peers/$*; this takes a few minutes."
	@$(PYTHON) -m venv --clear .peers/$*
	@.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement $<
	@.peers/$*/bin/python -m pip uninstall -qqy torchvision 2>/dev/null
	@touch $@

.audit/.installed: Makefile
	@$(PYTHON) -m venv --clear .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	@touch $@

# The browser tests drive a Chromium of the system, those of the database its PostgreSQL, which they start
# themselves. Root may install them; anybody else is told by the tests.
test-needs:
	@missing=; \
	  { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 \
	    || missing="chromium"; \
	  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 \
	    || missing="$$missing postgresql"; \
	  if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing $$missing for the tests."; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } >/dev/null \
	      || echo "$$missing could not be installed: the tests will say so." >&2; \
	  fi
