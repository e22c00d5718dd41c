# Every target makes the virtual environment it needs; nothing has to be installed by hand but Python 3.11-3.13.
PYTHON ?= $(shell for v in 3.13 3.12 3.11; do command -v python$$v >/dev/null 2>&1 && python$$v -c 1 >/dev/null 2>&1 && echo python$$v && exit; done; echo python3)
VENV ?= .venv
BIN := $(VENV)/bin
BUILD_INPUTS := pyproject.toml hatch_build.py $(wildcard proto/*.proto)

.PHONY: demo test slow lint bench attacks mutants tables fuzz crash chaos market load simulation cover mutants-core contracts clean
.DEFAULT_GOAL := test

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"aihd needs Python 3.11, 3.12 or 3.13, and {sys.executable} is {v.major}.{v.minor}: call make PYTHON=/path/to/python3.13")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.demo: $(BIN)/python $(BUILD_INPUTS)
	$(BIN)/pip install --quiet -e .
	@touch $@

$(VENV)/.dev: $(BIN)/python $(BUILD_INPUTS)
	$(BIN)/pip install --quiet -e '.[appkit,docker]' --group dev
	@touch $@ $(VENV)/.demo

# INPUT=some.file SERVICE=text-digest|word-count ASSET=SigUSD (pays in a token) SOURCES=node|explorer|both
demo: $(VENV)/.demo
	$(BIN)/aihd demo $(if $(INPUT),--input '$(INPUT)') $(if $(SERVICE),--service '$(SERVICE)') $(if $(ASSET),--asset '$(ASSET)') $(if $(SOURCES),--sources '$(SOURCES)')

test: $(VENV)/.dev
	$(BIN)/pytest -m 'not slow' -n auto --dist loadfile

# The longer tests: 20,000 mutated transactions, a market of 200 tasks under reorgs, a kill with 64 tasks in flight.
slow: $(VENV)/.dev
	$(BIN)/pytest -m slow -n auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# Every attack on the guards, refused by both interpreters, as a table.
attacks: $(VENV)/.dev
	$(BIN)/python -m tests.contracts

# Each conjunct of each guard deleted in turn: some attack must then succeed.
mutants: $(VENV)/.dev
	$(BIN)/python -m tests.contracts.mutate

# The tables of docs/protocol.md, from what is counted and measured.
tables: $(VENV)/.dev
	$(BIN)/python -m tests.contracts.tables

# MUTATIONS=500000 SEED=7; ends with 1 and the smallest recipe if an invariant breaks.
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.contracts.fuzz $(if $(MUTATIONS),--mutations $(MUTATIONS)) $(if $(SEED),--seed $(SEED))

# The daemon killed at every journal boundary and around every call to the outside, started again, and its end compared (ten minutes).
crash: $(VENV)/.dev
	$(BIN)/python -m tests.crash

# The pure core: every branch is taken by its own tests.
cover: $(VENV)/.dev
	$(BIN)/pytest tests/core tests/protocol -m 'not slow and not jvm' --cov=aihd.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

# One expression of the core changed at a time: its tests must fail (about five minutes).
mutants-core: $(VENV)/.dev
	$(BIN)/python tests/core/mutants.py

# MINUTES=60 SEQUENCES=2000 SEED=7; random sequences of faults, crashes and reorgs; ends with 1 and the smallest sequence that breaks a promise.
chaos: $(VENV)/.dev
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),60) $(if $(SEQUENCES),--sequences $(SEQUENCES)) $(if $(SEED),--seed $(SEED))

# 200 tasks, three daemons, a third of the blocks reorganised; the books of all wallets at the end.
market: $(VENV)/.dev
	$(BIN)/python -m tests.market

# A daemon with its hands full is killed and started again: how soon it is ready, and that nothing is lost.
load: $(VENV)/.dev
	$(BIN)/python -m tests.load

# Markets with honest and colluding parties: our score against its rivals.
simulation: $(VENV)/.dev
	$(BIN)/python -m benchmarks.reputation_sim

# Compile ergoscript/*.es into ergoscript/compiled/ with the reference compiler.
contracts: $(VENV)/.dev
	$(BIN)/aihd contracts compile

clean:
	rm -rf $(VENV) build dist aihd/nodo/pb .mypy_cache .ruff_cache .pytest_cache .hypothesis
